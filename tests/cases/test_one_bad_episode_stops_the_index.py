"""A hostile or damaged episode is a reject with its reason; the index goes to its end."""

import json
import os

import h5py
import pytest

from planning.cli.app import main
from worldmodel.data.writers.synthetic import draw_episode, random_states

POSE = "observation/robot_state/cartesian_position"


def huge(file):
    file.create_dataset(POSE, (10**12, 6), "f8", chunks=(1024, 6), compression="gzip")


def link(target):
    def put(file):
        file[POSE] = target

    return put


ARRAYS = {
    "dangling": link(h5py.SoftLink("/nowhere")),
    "external": link(h5py.ExternalLink("/etc/passwd", "/x")),
    "group": lambda file: file.create_group(POSE),
    "huge": huge,
}


def spoil(folder, kind):
    path = next(folder.glob("metadata_*"))
    if kind in ARRAYS:
        with h5py.File(folder / "trajectory.h5", "a") as file:
            del file[POSE]
            ARRAYS[kind](file)
    elif kind == "extrinsics":
        facts = {"ext1_cam_extrinsics": "x", "left_mp4_path": None}
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    elif kind == "nested":
        path.write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    else:
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize("kind", [*ARRAYS, "extrinsics", "nested", "fifo"])
def test_the_index_has_one_accepted_and_one_rejected(tmp_path, capsys, kind):
    folders = [
        draw_episode(tmp_path / "r", f"e{n}", random_states(8, n), size=(16, 32)) for n in (0, 1)
    ]
    spoil(folders[0], kind)
    assert main(["data", "index", f"root={tmp_path / 'r'}", f"out={tmp_path / 'o'}"]) == 0
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (summary["accepted"], summary["rejected"]) == (1, 1)
    assert "reader_failed" not in summary["reasons"]
