"""Frame mAP of boxes with class scores, as AVA's published evaluation computes it.

Shapes: D detections, G annotated boxes, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.perception.boxes.ava import Box

OVERLAP = 0.5
"""Minimum intersection over union of a detection and the box that it finds."""


@dataclass(frozen=True)
class Detections:
    """Boxes of one keyframe and their scores."""

    boxes: Sequence[Box]
    scores_DC: NDArray[np.float64]


def overlaps(one: Sequence[Box], other: Sequence[Box]) -> NDArray[np.float64]:
    """Return the intersection over union of every pair of boxes [len(one), len(other)]."""
    a, b = np.array(one).reshape(-1, 1, 4), np.array(other).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (a, b)]
    found: NDArray[np.float64] = shared / (areas[0] + areas[1] - shared)
    return found


def average_precision(scores: NDArray[np.float64], hits: NDArray[np.bool_], total: int) -> float:
    """Return the area under the precision-recall curve, with non-increasing precision.

    Args:
        scores: Score of each detection.
        hits: Whether it finds an annotated box that no better one has found.
        total: Number of annotated boxes.
    """
    order = np.argsort(-scores, kind="stable")
    found = hits[order].cumsum()
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    recall = np.concatenate([[0.0], found / total])
    return float((np.diff(recall) * precision).sum())


def frame_map(
    truth: Mapping[str, tuple[Sequence[Box], Sequence[frozenset[int]]]],
    found: Mapping[str, Detections],
    classes: Sequence[int],
) -> dict[int, float]:
    """Return the average precision of each class that is annotated.

    A detection finds the annotated box of the class that it overlaps most, by at least half, unless
    a detection with a higher score has found that box.

    Args:
        truth: Boxes and their class ids, by keyframe.
        found: Detections, by keyframe; keyframes of `truth` may be missing.
        classes: Class ids in the order of the scores.
    """
    result = {}
    for column, number in enumerate(classes):
        own = {
            name: [box for box, actions in zip(*pair, strict=True) if number in actions]
            for name, pair in truth.items()
        }
        total = sum(len(boxes) for boxes in own.values())
        if not total:
            continue
        scores, hits = [np.empty(0)], [np.empty(0, bool)]
        for name, detections in found.items():
            values = detections.scores_DC[:, column]
            scores.append(values)
            hits.append(_hits(own.get(name, []), detections.boxes, values))
        result[number] = average_precision(np.concatenate(scores), np.concatenate(hits), total)
    return result


def _hits(
    truth: Sequence[Box], boxes: Sequence[Box], scores: NDArray[np.float64]
) -> NDArray[np.bool_]:
    hits = np.zeros(len(boxes), bool)
    if not truth or not boxes:
        return hits
    overlap_DG, taken = overlaps(boxes, truth), set[int]()
    for number in np.argsort(-scores, kind="stable"):
        best = int(overlap_DG[number].argmax())
        if overlap_DG[number, best] >= OVERLAP and best not in taken:
            taken.add(best)
            hits[number] = True
    return hits
