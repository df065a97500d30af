"""Maps are guessed from plain names only; otherwise the columns are listed and asked for."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.worldmodel.data.own_names import (
    FRONT,
    SECOND,
    rewrite_info,
    write_own_lerobot,
    write_own_rlds,
    written,
)
from worldmodel.data.column_guess import guess_cameras
from worldmodel.data.column_map import ColumnMap
from worldmodel.data.dataset import open_row
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.readers import lerobot_list
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.writers.synthetic import random_states
from worldmodel.errors import ConfigError, DataError

NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
STATES = [random_states(70, seed) for seed in (0, 1)]


@pytest.fixture(autouse=True)
def forget():
    for cached in (lerobot_list.read_info, lerobot_list.list_episodes):
        cached.cache_clear()


def later(states):
    return np.concatenate([states[1:], states[-1:]])


def index(root, out, **read):
    options = IndexOptions(read=ReadOptions(**read))
    return build_index(root, out, options, workers=1)


MEANINGS = {
    "target": later,
    "delta": lambda s: later(s) - s,
    "derived": lambda s: np.random.default_rng(0).normal(size=s.shape),
}


@pytest.mark.parametrize("meaning", MEANINGS)
def test_named_poses_are_guessed_logged_and_stored(tmp_path, caplog, meaning):
    root = write_own_lerobot(
        tmp_path / "set", STATES, column=lambda s: (s, MEANINGS[meaning](s)), names=NAMES
    )
    summary = index(root, tmp_path / "out")
    assert (summary["accepted"], summary["map_from"]) == (2, "guessed")
    expected = {"state": "observation.state[0:6]", "gripper": "observation.state[6]"}
    expected |= {"left": FRONT, "right": SECOND}
    assert expected.items() <= summary["map"].items()
    assert summary["map"].get("actions", "derived") == meaning
    assert "state=observation.state[0:6]" in caplog.text
    manifest = open_manifest(tmp_path / "out")
    np.testing.assert_allclose(
        open_row(manifest, manifest.rows[0]).states_TS[:, :3], STATES[0][:, :3], atol=1e-9
    )


def test_motor_names_in_a_dictionary_are_read(tmp_path):
    names = {"motors": ["gripper.pos", "ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz"]}

    def column(states):
        poses = written(states, rotation="rotvec")
        return np.concatenate([states[:, 6:], poses], axis=1), states

    root = write_own_lerobot(tmp_path / "set", STATES, column=column, names=names)
    found = index(root, tmp_path / "out")["map"]
    assert found["state"] == "observation.state[1:7]"
    assert (found["rotation"], found["gripper"]) == ("rotvec", "observation.state[0]")


ASKED = {
    "no names": (None, lambda s: s, "do not tell"),
    "joints": ([f"joint_{i}.pos" for i in range(7)], lambda s: s, "is not the pose"),
    "millimetres": (NAMES, lambda s: s * ([1000] * 3 + [1] * 4), "position_unit=mm"),
    "degrees": (NAMES, lambda s: s * ([1] * 3 + [180 / np.pi] * 3 + [1]), "angle_unit=deg"),
    "gripper in percent": (NAMES, lambda s: s * ([1] * 6 + [100]), "gripper_open="),
    "gripper in metres": (NAMES, lambda s: s * ([1] * 6 + [0.08]), "gripper_open="),
    "two grippers": ([*NAMES[:5], "gripper_1", "gripper_2"], lambda s: s, "is not the pose"),
    "names of another number": (NAMES[:6], lambda s: s, "cannot be read"),
}


@pytest.mark.parametrize("name", ASKED)
def test_an_uncertain_map_is_asked_for_with_the_columns(tmp_path, name):
    names, column, text = ASKED[name]
    root = write_own_lerobot(tmp_path / "set", STATES, column=lambda s: (column(s), s), names=names)
    with pytest.raises(ConfigError) as error:
        index(root, tmp_path / "out")
    message = str(error.value)
    assert text in message
    assert f"{FRONT} frames" in message
    assert "observation.state [7]" in message
    assert f"data index root={root}" in message
    assert "state_kind=joints" in message


def test_an_rlds_set_with_other_names_is_asked_for(tmp_path):
    root = write_own_rlds(
        tmp_path / "set", STATES, values=lambda s: {"eef": s[:, :6], "opening": s[:, 6:]}
    )
    with pytest.raises(ConfigError, match=r"steps/observation/eef \[6\]"):
        index(root, tmp_path / "out")


def test_a_column_that_is_not_there_is_one_error(tmp_path):
    root = write_own_lerobot(tmp_path / "set", STATES, column=lambda s: (s, s))
    columns = ColumnMap(state="observation.stat[0:6]", gripper="none", left=FRONT)
    with pytest.raises(ConfigError, match=r"no column 'observation\.stat'"):
        index(root, tmp_path / "out", columns=columns)
    columns = ColumnMap(state="observation.state[0:6]", gripper="none", left="observation.state")
    with pytest.raises(ConfigError, match=r"no column 'observation\.state' of the kind"):
        index(root, tmp_path / "out", columns=columns)


def test_a_wrong_map_is_asked_back(tmp_path):
    root = write_own_lerobot(tmp_path / "set", STATES, column=lambda s: (s, s))
    columns = ColumnMap(
        state="observation.state[0:6]",
        rotation="euler_xyz",
        gripper="observation.state[0]",
        gripper_closed=0.1,
        left=FRONT,
    )
    with pytest.raises(DataError, match=r"(?s)gripper_out_of_range.*read as .*gripper_closed=0\.1"):
        index(root, tmp_path / "out", columns=columns)


def test_a_map_has_no_effect_on_raw_droid(layouts, tmp_path):
    roots, _ = layouts
    columns = ColumnMap(state="s", gripper="none", left="c")
    with pytest.raises(ConfigError, match="no effect"):
        index(roots["droid"], tmp_path / "out", columns=columns)


def test_droids_names_need_no_map(layouts, tmp_path):
    roots, _ = layouts
    for name, root in roots.items():
        summary = index(root, tmp_path / name)
        assert (summary["map"], summary["map_from"]) == ({}, "DROID")


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    root = tmp_path_factory.mktemp("named") / "set"
    return write_own_lerobot(root, STATES, column=lambda s: (s, s), names=NAMES)


ODD_FEATURES = [None, 3, [], {}, {"dtype": None}, {"dtype": "float32", "shape": "x", "names": 3}]
ODD_FEATURES += [{"dtype": "float32", "names": [[1]]}, {"dtype": "video", "shape": [None]}]


@pytest.mark.parametrize("odd", ODD_FEATURES, ids=repr)
@pytest.mark.parametrize("key", ["observation.state", "action", "a column"])
def test_an_odd_description_of_a_column_is_no_bare_error(named, tmp_path, odd, key):
    root = shutil.copytree(named, tmp_path / "set")
    rewrite_info(root, lambda info: info["features"].update({key: odd}))
    try:
        message = f"accepted {index(root, tmp_path / 'out')['accepted']}"
    except (DataError, ConfigError) as error:
        message = str(error)
    assert any(text in message for text in ("accepted 2", "columns", "reasons"))


def test_cameras_are_told_by_their_names():
    views = [f"observation.images.{n}" for n in ("side_right", "cam_left", "hand", "front_depth")]
    found = guess_cameras(views)
    assert {k: v.rpartition(".")[2] for k, v in found.items()} == {
        "left": "cam_left",
        "right": "side_right",
        "wrist": "hand",
    }


REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.mark.skipif(not REAL.is_dir(), reason="the handed data sets are not here")
def test_a_set_written_by_lerobot_itself_is_read_whole(tmp_path):
    summary = index(REAL / "lerobot_v3_by_lerobot_0.6.1", tmp_path / "out")
    assert (summary["accepted"], summary["rejected"]) == (10, 0)
    assert summary["map"]["actions"] == "target"
