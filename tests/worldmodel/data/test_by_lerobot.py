"""Sets that the lerobot package wrote are read as they are, and guessed right.

`by_lerobot/` holds two episodes of `random_states(60, number)[::5]` at 3 Hz, written once by
lerobot 0.3.3 (v2.1) and 0.6.1 (v3.0), with images in the rows or as videos.
"""

from pathlib import Path

import numpy as np
import pytest

from worldmodel.data.dataset import open_row
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.writers.synthetic import draw_frames, random_states

SETS = sorted((Path(__file__).parent / "by_lerobot").iterdir())


@pytest.mark.parametrize("root", SETS, ids=[p.name for p in SETS])
def test_states_targets_and_frames_are_what_was_recorded(tmp_path, root):
    summary = build_index(root, tmp_path / "out", workers=1)
    assert (summary["accepted"], summary["map"]["actions"]) == (2, "target")
    manifest = open_manifest(tmp_path / "out")
    for number, row in enumerate(manifest.rows):
        states = random_states(60, number)[::5].astype(np.float32)
        episode = open_row(manifest, row)
        kept = [0, 1, 2, 6]
        np.testing.assert_allclose(episode.states_TS[:, kept], states[:, kept], atol=1e-6)
        reached = states[[*range(1, 12), 11]]
        np.testing.assert_allclose(episode.targets_TS[:, kept], reached[:, kept], atol=1e-6)
        assert (episode.task, episode.times_s[1]) == ("go", pytest.approx(1 / 3))
        frames = episode.camera("left").frames.read(np.arange(12)).astype(int)
        assert np.abs(frames - draw_frames(states, (32, 48))).mean() < 5
