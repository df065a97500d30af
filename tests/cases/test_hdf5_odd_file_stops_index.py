"""One odd trajectory.h5 is one reject; the good episode is indexed."""

import json

import h5py
import numpy as np
import pytest

from worldmodel.data.index import build_index
from worldmodel.data.writers.synthetic import SERIALS, draw_episode, random_states

STEPS = 8
POSE = "observation/robot_state/cartesian_position"
EXTRINSICS = f"observation/camera_extrinsics/{SERIALS['left']}_left"
STAMPS = f"observation/timestamp/cameras/{SERIALS['left']}_estimated_capture"
ODD = {
    "external-link": (POSE, h5py.ExternalLink("gone.h5", "/x")),
    "soft-link": (POSE, h5py.SoftLink("/gone")),
    "null": (POSE, h5py.Empty("f8")),
    "group-of-poses": (POSE, None),
    "group-of-stamps": (STAMPS, None),
    "pose-of-six": (EXTRINSICS, np.array([0.3, 0.6, 0.5, -2, 0, -2])),
    "no-poses": (EXTRINSICS, np.zeros((0, 6))),
    "matrices": (EXTRINSICS, np.tile(np.eye(4), (STEPS, 1, 1))),
    "text": (EXTRINSICS, np.array([b"a"] * STEPS)),
    "camera-type": ("observation/camera_type", 1),
}
ODD_POSES = {"dictionary": {"x": 1}, "word": "none"}


def episode(root, name):
    folder = draw_episode(
        root, name, random_states(STEPS, len(name)), size=(16, 32), cameras=("left",)
    )
    path = next(folder.glob("metadata_*.json"))
    if name != "good":
        pose = ODD_POSES.get(name)
        facts = {"left_mp4_path": None, "ext1_cam_extrinsics": pose}
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_each_is_the_reject_of_its_episode(tmp_path, workers):
    episode(tmp_path / "data", "good")
    for name, (key, value) in ODD.items():
        with h5py.File(episode(tmp_path / "data", name) / "trajectory.h5", "a") as file:
            del file[key]
            if value is None:
                file.create_group(key)["x"] = 1
            else:
                file[key] = value
    for name in ODD_POSES:
        episode(tmp_path / "data", name)
    summary = build_index(tmp_path / "data", tmp_path / "out", workers=workers)
    assert (summary["accepted"], summary["rejected"]) == (1, len(ODD) + len(ODD_POSES))
    assert "reader_failed" not in summary["reasons"]
