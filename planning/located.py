"""Poses of objects, decoded from tokens or given, and how those of two images belong together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Located:
    """Pose of an object as decoded from tokens."""

    position_m: Array
    """Position [3], base frame, m."""
    yaw_rad: float | None
    """Yaw of its long side modulo pi [rad]; None where it is ambiguous."""
    certainty: float = 1.0
    """Certainty of the yaw, 0 to 1."""


def wrap_half_turn(angle: float) -> float:
    """Return the equivalent angle within +-pi/2 of a body that looks the same after half a turn."""
    return float(angle - np.pi * np.round(angle / np.pi))


def pair_objects(now: Sequence[Located], goal: Sequence[Located]) -> list[tuple[int, int]]:
    """Pair each object with one of the goal so that the total distance is smallest."""
    if len(now) > len(goal):
        return [(i, j) for j, i in pair_objects(goal, now)]
    best: tuple[float, list[tuple[int, int]]] = (np.inf, [])
    for order in itertools.permutations(range(len(goal)), len(now)):
        pairs = list(enumerate(order))
        total = sum(
            float(np.linalg.norm((now[i].position_m - goal[j].position_m)[:2])) for i, j in pairs
        )
        best = min(best, (total, pairs))
    return best[1]
