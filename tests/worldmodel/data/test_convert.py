"""Any data set becomes a LeRobot set that this package, and lerobot itself, read back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.worldmodel.data.own_names import FRONT, write_own_lerobot
from worldmodel.data.column_map import ColumnMap
from worldmodel.data.convert import commanded, convert, convert_episodes
from worldmodel.data.convert_output import PARTS
from worldmodel.data.dataset import open_row
from worldmodel.data.episode import Episode
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.readers import lerobot_list
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.writers import lerobot
from worldmodel.data.writers.lerobot import LeRobotEpisode, write_lerobot
from worldmodel.data.writers.synthetic import draw_frames, random_states
from worldmodel.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def forget():
    for cached in (lerobot_list.read_info, lerobot_list.list_episodes):
        cached.cache_clear()


def opened(root, out, **read):
    lerobot_list.read_info.cache_clear()
    lerobot_list.list_episodes.cache_clear()
    build_index(root, out, IndexOptions(read=ReadOptions(**read)), workers=1)
    return open_manifest(out)


def same(found, wanted, steps):
    np.testing.assert_allclose(found.states_TS, wanted.states_TS[steps], atol=1e-5)
    assert found.cameras.keys() == wanted.cameras.keys()
    for name, camera in wanted.cameras.items():
        frames = found.camera(name).frames.read(np.arange(len(found)))
        difference = frames.astype(int) - camera.frames.read(steps)
        assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("layout", ["droid", "rlds", "v2.1", "v3.0"])
def test_every_layout_becomes_the_same_episodes(layouts, tmp_path, layout):
    roots, _ = layouts
    before = opened(roots[layout], tmp_path / "before")
    summary = convert(before, tmp_path / "out")
    assert (summary["episodes"], summary["fps"]) == (2, 15)
    after = opened(tmp_path / "out", tmp_path / "after")
    assert after.summary["map_from"] == "DROID"
    for old, new in zip(before.rows, after.rows, strict=True):
        wanted = open_row(before, old, all_cameras=True)
        found = open_row(after, new, all_cameras=True)
        assert (found.success, found.task) == (wanted.success, wanted.task)
        same(found, wanted, np.arange(len(wanted)))


def test_a_faster_recording_is_subsampled_by_its_clock(layouts, tmp_path):
    roots, _ = layouts
    before = opened(roots["droid"], tmp_path / "before")
    convert(before, tmp_path / "out", fps=5)
    after = opened(tmp_path / "out", tmp_path / "after")
    wanted = open_row(before, before.rows[0], all_cameras=True)
    found = open_row(after, after.rows[0], all_cameras=True)
    same(found, wanted, np.arange(0, len(wanted), 3))
    np.testing.assert_allclose(np.diff(found.times_s), 0.2, atol=1e-6)


def test_recorded_actions_are_the_commanded_states(tmp_path):
    states = random_states(20, 0)
    root = write_own_lerobot(
        tmp_path / "set", [states], column=lambda s: (s, s + 0.01), image_views=True
    )
    columns = ColumnMap(
        state="observation.state[0:6]",
        gripper="observation.state[6]",
        actions="target",
        action="action[0:6]",
        action_gripper="action[6]",
        left=FRONT,
    )
    convert(opened(root, tmp_path / "before", columns=columns), tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "data/chunk-000/file-000.parquet")
    action = np.array(table["action"].to_pylist())
    np.testing.assert_allclose(action[:, [0, 1, 2, 6]], states[:, [0, 1, 2, 6]] + 0.01, atol=1e-5)


def test_sent_actions_and_their_gripper_commands_become_states():
    states = random_states(4, 0)
    sent = np.zeros((4, 7))
    sent[:, 0], sent[:, 6] = 0.02, [-1, 0, 1, 1]
    episode = Episode(
        id="e",
        layout="droid",
        states_TS=states,
        times_s=np.arange(4) / 4,
        cameras={},
        moving_T=np.ones(4, bool),
        actions_TA=sent,
    )
    found = commanded(episode, np.arange(4))
    np.testing.assert_allclose(found[:, 0], states[:, 0] + 0.02)
    np.testing.assert_allclose(found[:, 6], [0, states[1, 6], 1, 1])
    skipped = commanded(episode, np.array([0, 2]))
    np.testing.assert_array_equal(skipped, states[[2, 2]])


FRAMES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def one(**changes):
    states = random_states(3, 0)
    plain = {"states_TS": states, "targets_TS": states, "frames": {"left": FRAMES}, "task": "go"}
    return LeRobotEpisode(**{**plain, **changes})


ODD = {
    "joints": {"joints_TJ": np.zeros((3, 7))},
    "cameras": {"frames": {"left": FRAMES, "wrist": FRAMES}},
    "frame size": {"frames": {"left": FRAMES[:, :8]}},
}


@pytest.mark.parametrize("name", ODD)
def test_episodes_of_other_columns_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="differs from the first one in"):
        write_lerobot(tmp_path, [one(), one(**ODD[name])], fps=4)


def test_odd_sizes_and_empty_sets_are_refused(tmp_path):
    with pytest.raises(DataError, match="even numbers"):
        write_lerobot(tmp_path, [one(frames={"left": FRAMES[:, :15]})], fps=4)
    with pytest.raises(DataError, match="at least one"):
        write_lerobot(tmp_path, [], fps=4)


@pytest.mark.parametrize("moved", range(4))
def test_a_conversion_killed_while_it_moves_its_folders_resumes(
    layouts, tmp_path, monkeypatch, moved
):
    """The folders are moved one by one; the next run takes them back and encodes no video anew."""
    roots, _ = layouts
    before, out = opened(roots["droid"], tmp_path / "before"), tmp_path / "out"
    summary = convert(before, out)
    whole = {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    shutil.rmtree(out)
    rename, targets = Path.rename, []

    def killed(path, target):
        if Path(target).parent == out:
            if len(targets) == moved:
                raise KeyboardInterrupt
            targets.append(target)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        if moved < len(PARTS):
            with pytest.raises(KeyboardInterrupt):
                convert(before, out)
        else:  # between the last move and the removal of what was kept
            patched.setattr(shutil, "rmtree", lambda *_, **__: None)
            convert(before, out)
    assert [target.name for target in targets] == list(PARTS[:moved])
    monkeypatch.setattr(lerobot, "encode", None)
    assert convert(before, out) == summary
    assert whole == {
        file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()
    }


def test_an_output_that_holds_something_is_kept(layouts, tmp_path):
    roots, _ = layouts
    before = opened(roots["droid"], tmp_path / "before")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(ConfigError, match="holds mine"):
        convert(before, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_statistics_are_those_of_the_values(tmp_path):
    write_lerobot(tmp_path, [one(), one()], fps=4)
    stats = json.loads((tmp_path / "meta" / "stats.json").read_text())
    states = np.concatenate([random_states(3, 0)] * 2)
    state, pixels = stats["observation.state"], stats[FRONT]
    np.testing.assert_allclose(state["mean"], states.mean(0), atol=1e-6)
    np.testing.assert_allclose(state["q99"], np.quantile(states, 0.99, axis=0), atol=1e-6)
    assert (state["count"], pixels["count"]) == ([6], [6])
    scaled = FRAMES / 255
    np.testing.assert_allclose(np.ravel(pixels["mean"]), scaled.mean((0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(np.ravel(pixels["std"]), scaled.std((0, 1, 2)), atol=1e-9)
    assert np.shape(pixels["q50"]) == (3, 1, 1)


def columns_of(root):
    """Columns of each file of a set, without those of statistics, and their types."""
    found = {}
    for name in ("meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        schema = pq.read_schema(root / name)
        found[name] = {n: schema.field(n).type for n in schema.names if not n.startswith("stats/")}
    return found


REAL = Path(__file__).parents[4] / "shared" / "data" / "lerobot_v3_by_lerobot_0.6.1"


@pytest.mark.skipif(not REAL.is_dir(), reason="the set that lerobot wrote is not here")
def test_the_files_have_the_columns_of_lerobots_own(tmp_path):
    convert(opened(REAL, tmp_path / "before"), tmp_path / "out")
    assert columns_of(tmp_path / "out") == columns_of(REAL)
    ours, theirs = (
        json.loads((r / "meta/info.json").read_text()) for r in (tmp_path / "out", REAL)
    )
    assert ours.keys() == theirs.keys()
    same_kinds = {k: (v["dtype"], v["shape"], v["names"]) for k, v in theirs["features"].items()}
    kinds = {k: (v["dtype"], v["shape"], v["names"]) for k, v in ours["features"].items()}
    assert same_kinds.items() <= kinds.items()
    data = "data/chunk-000/file-000.parquet"
    schemas = [pq.read_schema(r / data) for r in (tmp_path / "out", REAL)]
    for name in schemas[1].names:
        assert schemas[0].field(name).type == schemas[1].field(name).type


def test_lerobot_itself_reads_the_set(tmp_path, monkeypatch):
    pytest.importorskip("lerobot")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    frames = draw_frames(random_states(3, 0), (48, 64))
    write_lerobot(tmp_path, [one(frames={"left": frames})] * 2, fps=4)
    read = LeRobotDataset("local/set", root=tmp_path, video_backend="pyav")
    assert (len(read), read.num_episodes) == (6, 2)
    item = read[5]
    np.testing.assert_allclose(item["observation.state"], random_states(3, 0)[2], atol=1e-6)
    assert item["task"] == "go"
    assert np.abs(np.moveaxis(item[FRONT].numpy(), 0, 2) * 255 - frames[2]).mean() < 4


ODD_EPISODES = {
    "one step": lambda x: replace(x, states_TS=x.states_TS[:1], times_s=x.times_s[:1]),
    "no step": lambda x: replace(x, states_TS=x.states_TS[:0], times_s=x.times_s[:0]),
    "fewer times": lambda x: replace(x, times_s=x.times_s[:-1]),
    "a clock that does not go": lambda x: replace(x, times_s=x.times_s * 0),
    "states in a list": lambda x: replace(x, states_TS=x.states_TS.tolist()),
    "states in words": lambda x: replace(x, states_TS=np.full((9, 7), "x")),
    "no rotation": lambda x: replace(x, states_TS=x.states_TS[:, :3]),
    "cameras in a list": lambda x: replace(x, cameras=[]),
    "no episode": lambda x: {"states": x.states_TS},
}


@pytest.mark.parametrize("name", ODD_EPISODES)
def test_an_odd_episode_of_a_users_reader_is_one_error(name, tmp_path):
    states = random_states(9, 0)
    good = Episode(
        id="mine",
        layout="own",
        states_TS=states,
        times_s=np.arange(9) / 15,
        cameras={},
        moving_T=np.ones(9, bool),
    )
    with pytest.raises(DataError, match=r"Episode mine cannot be used|must yield Episodes"):
        convert_episodes([ODD_EPISODES[name](good)], tmp_path / "out")
    assert not list((tmp_path / "out").glob("[!.]*"))
