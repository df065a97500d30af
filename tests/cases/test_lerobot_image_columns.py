"""A LeRobot view that is stored as images in the rows is read."""

import numpy as np

from tests.worldmodel.data.other_layouts import SIZE, write_lerobot
from worldmodel.data.dataset import open_row
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.writers.synthetic import draw_frames, random_states


def test_the_images_are_the_frames(tmp_path):
    states = random_states(8, 0)
    root = write_lerobot(tmp_path / "in", [states], "v2.1", image_views=True)
    assert build_index(root, tmp_path / "out", workers=1)["accepted"] == 1
    manifest = open_manifest(tmp_path / "out")
    frames = open_row(manifest, manifest.rows[0]).camera("left").frames.read(np.arange(8))
    assert np.abs(frames.astype(int) - draw_frames(states, SIZE)).mean() < 4
