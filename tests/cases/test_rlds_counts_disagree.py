"""Joints or poses that are not whole steps are the reject of their record."""

import numpy as np
import pytest

from tests.worldmodel.data.other_layouts import write_rlds
from worldmodel.data.index import build_index
from worldmodel.data.writers.synthetic import random_states

OBSERVATION = "steps/observation/"


@pytest.mark.parametrize("key", ["joint_position", "cartesian_position"])
def test_one_is_accepted_and_one_rejected(tmp_path, key):
    def change(number, floats, images):
        if number:
            floats[OBSERVATION + key] = np.ravel(floats[OBSERVATION + key])[:-1]

    root = write_rlds(tmp_path / "in", [random_states(8, seed) for seed in (0, 1)], change)
    (root / "features.json").unlink()
    summary = build_index(root, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["reasons"]) == (1, {"lengths_differ": 1})
