import json
import subprocess
import sys

import numpy as np
import pytest

from worldmodel.data.episode import EpisodeError
from worldmodel.data.index import build_index
from worldmodel.data.readers.layouts import find_units, read_one, read_unit
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.readers.rlds import read_records, read_shard
from worldmodel.data.sampling import ClipOptions, find_clips, grid_steps, state_actions, states_of
from worldmodel.data.writers.synthetic import draw_frames
from worldmodel.errors import DataError


def episodes(root):
    return [out for unit in find_units(root) for _, out in read_unit(unit, ReadOptions())]


@pytest.mark.parametrize("name", ["droid", "rlds", "v2.1", "v3.0"])
def test_every_layout_gives_the_same_states_frames_and_clip_span(layouts, name):
    roots, states = layouts
    found = episodes(roots[name])
    assert [len(e) for e in found] == [64, 70]
    options = ClipOptions()
    for episode, truth in zip(found, states, strict=True):
        np.testing.assert_allclose(episode.states_TS, truth, atol=1e-6)
        steps = grid_steps(episode.times_s, 0.25, options)
        span = episode.times_s[steps[-1]] - episode.times_s[steps[0]]
        assert span == pytest.approx(3.75, abs=1 / 15)
        assert episode.success
        wanted = draw_frames(truth, (48, 64))[steps].astype(int)
        frames = episode.camera("left").frames.read(steps)
        assert np.abs(frames - wanted).mean() < 4
        other = episode.camera("right").frames.read(steps)
        assert np.abs(other - wanted).mean() > np.abs(frames - wanted).mean() + 1


@pytest.mark.parametrize("name", ["droid", "rlds", "v2.1", "v3.0"])
def test_every_layout_can_be_indexed(layouts, tmp_path, name):
    roots, _ = layouts
    summary = build_index(roots[name], tmp_path, workers=1)
    assert (summary["accepted"], summary["rejected"]) == (2, 0)
    unit = find_units(roots[name])[0]
    assert len(read_one(unit, ReadOptions(inspect=False))) == 64


def test_cut_off_shard_keeps_what_is_whole_and_names_the_rest(layouts, tmp_path):
    roots, _ = layouts
    shard = next(roots["rlds"].glob("*.tfrecord*"))
    (tmp_path / "rlds").mkdir()
    whole = shard.read_bytes()
    (tmp_path / "rlds" / shard.name).write_bytes(whole[: len(whole) - 100])
    summary = build_index(tmp_path / "rlds", tmp_path / "out", workers=1)
    assert summary["accepted"] == 1
    assert summary["reasons"] == {"record_truncated": 1}
    assert len(list(read_records(shard))) == 2


def test_clips_keep_out_of_gaps_and_idle_steps(layouts):
    times = np.arange(90) / 15
    options = ClipOptions(num_frames=5, stride_s=0.5)
    moving = np.ones(90, bool)
    assert len(find_clips(times, moving, options)) == 10
    gap = np.where(times > 3, times + 2, times)
    assert len(find_clips(gap, moving, options)) < 12
    with pytest.raises(EpisodeError, match="timestamps_gap"):
        grid_steps(gap, 2.5, options)
    moving[:20] = False
    dropped = find_clips(times, moving, ClipOptions(num_frames=5, stride_s=0.5, idle="drop"))
    assert dropped.min() >= 20 / 15


def test_actions_lead_from_state_to_state_across_the_wrap(layouts):
    roots, _ = layouts
    episode = episodes(roots["droid"])[0]
    steps = np.arange(0, 40, 4)
    found, actions = state_actions(episode, steps, "flange")
    assert found.shape == (10, 7)
    assert np.abs(actions[:, 3:6]).max() < 0.5
    shifted, _ = state_actions(episode, steps, "tcp")
    distance = np.linalg.norm(shifted[:, :3] - found[:, :3], axis=1)
    np.testing.assert_allclose(distance, 0.1034)
    down = states_of(np.array([[0.5, 0.0, 0.5, np.pi, 0.0, 0.0, 0.0]]), "tcp").numpy()
    np.testing.assert_allclose(down[0, :3], [0.5, 0.0, 0.5 - 0.1034], atol=1e-9)


def copy_shard(layouts, out):
    """The RLDS shard alone, without features.json."""
    out.mkdir()
    shard = next(layouts[0]["rlds"].glob("*.tfrecord*"))
    (out / shard.name).write_bytes(shard.read_bytes())
    return out / shard.name


def test_rlds_is_decoded_by_features_json_and_alike_without(layouts, tmp_path):
    code = "import sys; import worldmodel.data.readers.rlds as r; from pathlib import Path; "
    code += "from worldmodel.data.readers.options import ReadOptions as R; "
    shard = next(layouts[0]["rlds"].glob("*.tfrecord*"))
    code += "from worldmodel.data.readers.rlds_features import describe; "
    code += f"e = r.read_record(Path({str(shard)!r}), 1, R()); print(len(e), e.task); "
    code += "assert describe(Path(sys.argv[1])); assert 'tensorflow' not in sys.modules"
    command = [sys.executable, "-c", code, str(shard.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "70 follow the square"
    plain = list(read_shard(copy_shard(layouts, tmp_path / "plain"), ReadOptions()))
    for (_, a), (_, b) in zip(read_shard(shard, ReadOptions()), plain, strict=True):
        np.testing.assert_array_equal(a.states_TS, b.states_TS)
        assert (a.id, a.task, a.success) == (b.id, b.task, b.success)
        assert a.camera("left").serial == b.camera("left").serial == "exterior_image_1_left"
        np.testing.assert_allclose(a.camera("left").extrinsics_TE[5, 1:3], [0.6, 0.5], rtol=1e-6)
        assert a.camera("left").frames.images == b.camera("left").frames.images


def test_rlds_records_that_are_not_as_described_are_rejected(layouts, tmp_path):
    shard = copy_shard(layouts, tmp_path / "rlds")
    described = json.loads((layouts[0]["rlds"] / "features.json").read_text())
    steps = described["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    poses = steps["featuresDict"]["features"]["observation"]["featuresDict"]["features"]
    poses["cartesian_position"]["tensor"]["shape"]["dimensions"] = ["11"]
    (shard.parent / "features.json").write_text(json.dumps(described))
    found = [outcome for _, outcome in read_shard(shard, ReadOptions())]
    assert [e.reason for e in found] == ["record_damaged", "record_damaged"]
    other = copy_shard(layouts, tmp_path / "other")
    (other.parent / "features.json").write_text("{}")
    with pytest.raises(DataError, match=r"features\.json does not describe"):
        list(read_shard(other, ReadOptions()))
