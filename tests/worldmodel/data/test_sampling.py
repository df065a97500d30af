"""The control steps that clips, prepared frames and flat arrays are made of."""

import numpy as np
import pytest

from worldmodel.data.episode import EpisodeError
from worldmodel.data.sampling import (
    ClipOptions,
    find_clips,
    grid_runs,
    grid_steps,
    nearest_steps,
    sequences,
)


@pytest.mark.parametrize("seed", range(20))
def test_properties_of_the_nearest_steps(seed):
    """On random clocks: nearest, earlier of two, good ones near and rising, and all others far."""
    rng = np.random.default_rng(seed)
    gaps_s = rng.choice([1 / 15, 1 / 15, 0.05, 0.09, 1.3], size=80, p=[0.4, 0.3, 0.1, 0.15, 0.05])
    times_s = np.concatenate([[0.0], np.cumsum(gaps_s)])
    fps = rng.choice([2.0, 4.0, 5.0, 12.0])
    wanted_s = np.arange(0.0, times_s[-1], 1 / fps)
    steps, good = nearest_steps(times_s, wanted_s, fps)
    distance = np.abs(times_s[:, None] - wanted_s)
    np.testing.assert_allclose(np.abs(times_s[steps] - wanted_s), distance.min(0), atol=1e-12)
    for k, step in enumerate(steps):
        assert step <= np.flatnonzero(distance[:, k] <= distance[step, k] - 1e-12).min(initial=80)
    assert (np.abs(times_s[steps[good]] - wanted_s[good]) <= 0.5 / fps).all()
    assert (np.diff(steps[good]) > 0).all()
    near = np.abs(times_s[steps] - wanted_s) <= 0.5 / fps
    repeated = np.concatenate([[False], (np.diff(steps) == 0) & near[:-1]])
    np.testing.assert_array_equal(good, near & ~repeated)


@pytest.mark.parametrize("seed", range(10))
def test_runs_and_clips_choose_the_same_steps(seed):
    """A clip from a grid time lies in a run of the whole episode, and every run is clips."""
    rng = np.random.default_rng(seed)
    times_s = np.cumsum(rng.choice([1 / 15, 1 / 14, 1 / 16, 2.0], 200, p=[0.5, 0.24, 0.25, 0.01]))
    times_s -= times_s[0]
    options = ClipOptions(num_frames=3, stride_s=0.25)
    windows = {
        tuple(run[first : first + 3])
        for run in grid_runs(times_s, 4.0)
        for first in range(len(run) - 2)
    }
    starts = find_clips(times_s, np.ones(len(times_s), bool), options)
    clips = {tuple(grid_steps(times_s, float(start), options)) for start in starts}
    assert clips <= windows
    assert len(clips) >= 0.9 * len(windows)


def test_runs_break_at_gaps():
    times_s = np.arange(60) / 15
    assert [len(r) for r in grid_runs(times_s, 4.0)] == [16]
    times_s[30:] += 3.0
    assert len(grid_runs(times_s, 4.0)) == 2


def test_sequences_follow_the_clock_and_stop_at_gaps():
    even = np.arange(8) * 0.25
    assert [s.tolist() for s in sequences(even, 4.0)] == [list(range(8))]
    gap = np.where(even > 1, even + 2, even)
    assert [len(s) for s in sequences(gap, 4.0)] == [5, 3]
    fast = np.arange(60) / 15
    assert np.diff(fast[sequences(fast, 4.0)[0]]).max() <= 4 / 15 + 1e-9
    broken = np.where(fast > 2, fast + 3, fast)
    assert [len(s) for s in sequences(broken, 4.0)] == [9, 8]
    with pytest.raises(EpisodeError, match="too_slow"):
        sequences(np.arange(5) * 1.0, 4.0)
