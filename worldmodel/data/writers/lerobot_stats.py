"""Statistics of columns and frames, as LeRobot stores them for the data set and each episode.

Shapes: T control steps, W values of a column, H W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
LEVELS = np.arange(256) / 255
"""Values of a pixel."""
Stats = dict[str, object]
Histogram = NDArray[np.int64]
"""Number of pixels of each value in R, G and B [3, 256]."""


def column_stats(values_TW: NDArray[np.generic]) -> Stats:
    """Return minimum, maximum, mean, standard deviation, count and quantiles of a column."""
    values = values_TW.astype(np.float64)
    found: Stats = {
        "min": values.min(0).tolist(),
        "max": values.max(0).tolist(),
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "count": [len(values)],
    }
    shares = np.quantile(values, list(QUANTILES.values()), axis=0)
    return found | {name: row.tolist() for name, row in zip(QUANTILES, shares, strict=True)}


def histogram(frames_THWC: NDArray[np.uint8]) -> Histogram:
    """Return the histogram of RGB frames [T, H, W, 3]."""
    channels = np.moveaxis(frames_THWC, -1, 0).reshape(3, -1)
    return np.stack([np.bincount(channel, minlength=256) for channel in channels])


def frame_stats(counts: Histogram, frames: int) -> Stats:
    """Return the statistics of pixels, scaled to 0..1, as nested lists [3, 1, 1].

    Args:
        counts: Histogram of the pixels.
        frames: Number of frames.
    """
    total = counts.sum(1)
    means = (counts @ LEVELS) / total
    squares = (counts @ LEVELS**2) / total
    below = counts.cumsum(1) / total[:, None]
    found = {
        "min": [LEVELS[row.nonzero()[0][0]] for row in counts],
        "max": [LEVELS[row.nonzero()[0][-1]] for row in counts],
        "mean": means,
        "std": np.sqrt(np.maximum(squares - means**2, 0)),
    }
    found |= {
        name: [LEVELS[int((row >= share).argmax())] for row in below]
        for name, share in QUANTILES.items()
    }
    nested: Stats = {name: [[[float(x)]] for x in row] for name, row in found.items()}
    return nested | {"count": [frames]}
