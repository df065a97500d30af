"""Score how well surprise separates possible from impossible videos.

Source: Garrido et al. (arXiv 2502.11831), IntPhys (arXiv 1803.07616). Accuracies are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from worldmodel.errors import ShapeError

Scores = NDArray[np.float64]
NUM_THRESHOLDS = 100
"""Number of thresholds searched for the best absolute accuracy."""
NUM_RESAMPLES = 1000
"""Number of resamplings of the pairs for an interval."""
QUANTILE = 0.9
"""Fraction of possible videos below the fixed threshold."""


@dataclass(frozen=True, kw_only=True)
class PairMetrics:
    """Scores of a set of pairs; `mean` and `max` name the reduction from windows to videos."""

    num_pairs: int
    relative_mean: float
    """Pairs whose impossible video is more surprising [%]; ties count as wrong."""
    relative_max: float
    absolute_max: float
    """Videos on the correct side of `threshold` [%]."""
    threshold: float
    """The 90 % quantile of the possible videos' scores."""
    best_absolute_max: float
    """Best accuracy of 100 thresholds, selected on the same videos [%]."""
    best_threshold: float
    auroc_mean: float
    auroc_mean_ci95: tuple[float, float]
    """95 % interval of `auroc_mean`, by resampling pairs."""
    auroc_max: float
    auroc_max_ci95: tuple[float, float]
    auprc_mean: float
    auprc_max: float


def min_over_contexts(rows: Sequence[Tensor]) -> Tensor:
    """Return each window's minimum surprise [windows] over contexts of equal length."""
    return torch.stack(list(rows)).amin(0)


def pad_as_published(rows: Sequence[Tensor]) -> Tensor:
    """Return videos of unequal length as [videos, windows], with zeros at the end."""
    return pad_sequence(list(rows), batch_first=True)


def video_scores(
    rows: Sequence[Tensor], how: Literal["mean", "max"], *, published_padding: bool = False
) -> Scores:
    """Reduce the surprises of each video's windows to one score.

    Args:
        rows: Surprises [windows] of each video; lengths may differ.
        how: Mean or maximum over the windows.
        published_padding: Whether to pad short videos with zeros, as in the released evaluation,
            which lowers their means.
    """
    rows = list(pad_as_published(rows)) if published_padding else rows
    return np.array([float(row.double().mean() if how == "mean" else row.max()) for row in rows])


def roc_curve(possible: Scores, impossible: Scores) -> tuple[Scores, Scores, Scores]:
    """Return thresholds, false and true positive rates of `-score` as a sign of "possible".

    The first point is (0, 0) at threshold -inf: a video counts as possible up to the threshold.
    """
    scores = np.unique(np.concatenate([possible, impossible]))
    true = np.searchsorted(np.sort(possible), scores, side="right") / len(possible)
    false = np.searchsorted(np.sort(impossible), scores, side="right") / len(impossible)
    return np.r_[-np.inf, scores], np.r_[0.0, false], np.r_[0.0, true]


def _area(x: Scores, y: Scores) -> float:
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)


def areas(possible: Scores, impossible: Scores) -> tuple[float, float]:
    """Return the areas under the ROC curve and the precision-recall curve, by trapezoids."""
    _, false, true = roc_curve(possible, impossible)
    hits, misses = true[1:] * len(possible), false[1:] * len(impossible)
    precision = np.r_[1.0, hits / (hits + misses)]
    return _area(false, true), _area(true, precision)


def auroc_interval(possible: Scores, impossible: Scores) -> tuple[float, float]:
    """Return the 95 % interval of the area under the ROC curve, by resampling whole pairs.

    The two videos of a pair share a scene, so they are drawn together. The resampling is seeded:
    equal scores give equal intervals.
    """
    pairs = len(possible)
    order = np.sign(impossible[None, :] - possible[:, None]) / 2 + 0.5  # 1/2 for a tie
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(pairs, np.full(pairs, 1 / pairs), NUM_RESAMPLES) / pairs
    low, high = np.quantile(((drawn @ order) * drawn).sum(1), (0.025, 0.975))
    return float(low), float(high)


def _accuracy(possible: Scores, impossible: Scores, threshold: float) -> float:
    right = (possible < threshold).sum() + (impossible > threshold).sum()
    return 100.0 * float(right) / (len(possible) + len(impossible))


def pair_metrics(
    possible: Sequence[Tensor], impossible: Sequence[Tensor], *, published_padding: bool = False
) -> PairMetrics:
    """Score pairs of videos.

    Args:
        possible: Surprises [windows] of the possible video of each pair.
        impossible: Surprises of the impossible ones, in the same order.
        published_padding: See `video_scores`.

    Raises:
        ShapeError: There is no pair, a video has no partner, or a video has no window.
    """
    pairs, rows = len(possible), [*possible, *impossible]
    if not pairs or len(impossible) != pairs or any(not len(row) for row in rows):
        raise ShapeError(
            f"{pairs} possible and {len(impossible)} impossible videos: give as many of both, "
            "at least one, each with at least one window"
        )
    means = video_scores(rows, "mean", published_padding=published_padding)
    highest = video_scores(rows, "max")
    good, bad = highest[:pairs], highest[pairs:]
    # The released code fails for fewer than 10 pairs, for which this index is out of range.
    threshold = float(np.sort(good)[min(math.ceil(QUANTILE * pairs), pairs - 1)])
    tried = np.linspace(good.min(), bad.max(), NUM_THRESHOLDS)
    accuracies = [_accuracy(good, bad, value) for value in tried]
    best = int(np.argmax(accuracies))
    auroc_mean, auprc_mean = areas(means[:pairs], means[pairs:])
    auroc_max, auprc_max = areas(good, bad)
    return PairMetrics(
        num_pairs=pairs,
        relative_mean=100.0 * float((means[pairs:] > means[:pairs]).mean()),
        relative_max=100.0 * float((bad > good).mean()),
        absolute_max=_accuracy(good, bad, threshold),
        threshold=threshold,
        best_absolute_max=accuracies[best],
        best_threshold=float(tried[best]),
        auroc_mean=auroc_mean,
        auroc_mean_ci95=auroc_interval(means[:pairs], means[pairs:]),
        auroc_max=auroc_max,
        auroc_max_ci95=auroc_interval(good, bad),
        auprc_mean=auprc_mean,
        auprc_max=auprc_max,
    )
