"""Scores of masks in videos: region similarity J and contour accuracy F, as DAVIS defines them.

Source: Perazzi et al., "A benchmark dataset and evaluation methodology for video object
segmentation", CVPR 2016; Pont-Tuset et al. (arXiv 1704.00675) for several objects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from worldmodel.errors import DataError

Mask = NDArray[np.bool_]
"""Whether each pixel belongs to the object [H, W]."""
TOLERANCE = 0.008
"""Distance at which contours still match, as a share of the frame's diagonal."""


def region_similarity(found: Mask, truth: Mask) -> float:
    """Return the intersection over the union, 1 if both masks are empty."""
    union = int((found | truth).sum())
    return float((found & truth).sum()) / union if union else 1.0


def contour(mask: Mask) -> Mask:
    """Return the pixels whose right, lower or lower right neighbour differs."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, corner = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != corner)


def _grown(mask: Mask, radius: int) -> Mask:
    """Return the pixels within a distance of the mask's."""
    axis = torch.arange(-radius, radius + 1)
    disc = ((axis[:, None] ** 2 + axis**2) <= radius**2).float()
    pixels = torch.from_numpy(mask)[None, None].float()
    grown: Mask = (F.conv2d(pixels, disc[None, None], padding=radius)[0, 0] > 0.5).numpy()
    return grown


def contour_accuracy(found: Mask, truth: Mask) -> float:
    """Return the F measure of the contours' precision and recall, 0..1."""
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    ours, theirs = contour(found), contour(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = float((ours & _grown(theirs, radius)).sum()) / float(ours.sum())
    recall = float((theirs & _grown(ours, radius)).sum()) / float(theirs.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score_masks(
    found: Sequence[NDArray[np.uint8]], truth: Sequence[NDArray[np.uint8]]
) -> dict[int, tuple[float, float]]:
    """Return J and F of each object, means over the frames between the first and the last one.

    Raises:
        DataError: There are fewer than three frames, sizes differ, or the first mask is empty.
    """
    if len(truth) < 3 or len(found) != len(truth):
        raise DataError(f"{len(found)} masks for {len(truth)} frames; needed: as many, at least 3")
    objects = [int(i) for i in np.unique(truth[0]) if i]
    if not objects or any(a.shape != b.shape for a, b in zip(found, truth, strict=True)):
        raise DataError("the first mask has no object, or the sizes of the masks differ")
    pairs = list(zip(found[1:-1], truth[1:-1], strict=True))
    return {
        number: (
            float(np.mean([region_similarity(a == number, b == number) for a, b in pairs])),
            float(np.mean([contour_accuracy(a == number, b == number) for a, b in pairs])),
        )
        for number in objects
    }
