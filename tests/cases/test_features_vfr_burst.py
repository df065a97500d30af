"""After a gap, sampling goes on at the asked rate."""

import numpy as np

from tests.worldmodel.data.odd_videos import write
from worldmodel.perception.features.extract import sampled_frames


def test_sixteen_frames_a_quarter_of_a_second_apart(tmp_path):
    stamps = [i * 33 for i in range(60)] + [6000 + i * 33 for i in range(60)]
    path = write(tmp_path / "gap.mp4", 120, fps=30, times_ms=stamps)
    times = [time_s for time_s, _ in sampled_frames(path, 4.0)]
    assert len(times) == 16
    np.testing.assert_allclose(times[8:], 6 + np.arange(8) / 4, atol=0.034)
