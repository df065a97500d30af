"""Statistics of an evaluation, with confidence intervals."""

from __future__ import annotations

import math

import numpy as np


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a success rate.

    Args:
        successes: Number of successful trials.
        trials: Number of trials; 0 gives the interval (0, 1).
        z: Quantile of the normal distribution; 1.96 gives 95 %.
    """
    if not trials:
        return 0.0, 1.0
    rate, n = successes / trials, trials
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def median_p95(values: list[float]) -> dict[str, float | None]:
    """Return the median and the 95th percentile; both are None for an empty list."""
    if not values:
        return {"median": None, "p95": None}
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}
