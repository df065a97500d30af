"""An odd row or list entry is its episode's reject, or one error that names file and key."""

import pytest

from tests.worldmodel.data.other_layouts import write_lerobot
from worldmodel.data.index import build_index
from worldmodel.data.readers import lerobot_list
from worldmodel.data.writers.synthetic import random_states
from worldmodel.errors import DataError

VIDEO = "videos/observation.images.exterior_1_left/"
POSE, JOINTS = (f"observation.state.{name}" for name in ("cartesian_position", "joint_position"))


def row(key, value):
    def change(number, columns):
        if number == 1:
            columns[key] = [*columns[key][:3], value, *columns[key][4:]]

    return change


REJECTS = {
    "null pose": ("v2.1", {"columns": row(POSE, None)}),
    "null joints": ("v2.1", {"columns": row(JOINTS, None)}),
    "pose of five": ("v2.1", {"columns": row(POSE, [0.0] * 5)}),
    "null camera pose": ("v2.1", {"columns": row("camera_extrinsics.exterior_1_left", None)}),
    "null file": ("v3.0", {"rows": lambda r: r[1].update({VIDEO + "file_index": None})}),
}
ERRORS = {
    "no chunks_size": ("v2.1", {"info": lambda i: i.pop("chunks_size")}, "chunks_size"),
    "no video_path": ("v2.1", {"info": lambda i: i.pop("video_path")}, "video_path"),
    "chunks_size 0": ("v2.1", {"info": lambda i: i.update(chunks_size=0)}, "chunks_size"),
    "no file_index": (
        "v3.0",
        {"rows": lambda rows: [r.pop(VIDEO + "file_index") for r in rows]},
        r"\.parquet.*file_index",
    ),
    "no from_timestamp": (
        "v3.0",
        {"rows": lambda rows: [r.pop(VIDEO + "from_timestamp") for r in rows]},
        r"\.parquet.*from_timestamp",
    ),
}


@pytest.fixture(autouse=True)
def forget():
    lerobot_list.read_info.cache_clear()
    lerobot_list.list_episodes.cache_clear()


def episodes():
    return [random_states(8, seed) for seed in (0, 1)]


@pytest.mark.parametrize("name", REJECTS)
def test_the_other_episode_stays(tmp_path, name):
    version, change = REJECTS[name]
    root = write_lerobot(tmp_path / "in", episodes(), version, **change)
    summary = build_index(root, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["rejected"]) == (1, 1)
    assert "reader_failed" not in summary["reasons"]


@pytest.mark.parametrize("name", ERRORS)
def test_the_error_names_file_and_key(tmp_path, name):
    version, change, named = ERRORS[name]
    root = write_lerobot(tmp_path / "in", episodes(), version, **change)
    with pytest.raises(DataError, match=named):
        build_index(root, tmp_path / "out", workers=1)
