"""A camera pose of NaN or zeros decides no side: the note left_assumed is counted."""

import numpy as np
import pytest

from tests.worldmodel.data.other_layouts import write_rlds
from worldmodel.data.index import build_index
from worldmodel.data.writers.synthetic import random_states

POSE = "episode_metadata/extrinsics_exterior_cam_"


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_left_is_noted_as_assumed(tmp_path, value):
    def change(number, floats, images):
        if number:
            floats[POSE + "1"] = [value] * 6
            floats[POSE + "2"] = [0.3, 0.5, 0.5, 0.0, 0.0, 0.0]

    root = write_rlds(tmp_path / "in", [random_states(8, seed) for seed in (0, 1)], change)
    summary = build_index(root, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["notes"]) == (2, {"left_assumed": 1})
