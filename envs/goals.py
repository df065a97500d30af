"""Sub-goals of a task: goal images rendered by the scripted expert."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.errors import TaskError


@dataclass(frozen=True)
class SubGoal:
    """A goal image and its step budget."""

    name: str
    image: NDArray[np.uint8]
    """RGB [H, W, 3]."""
    state: NDArray[np.float32]
    """Robot state [7] in the image; only the pose-only baseline uses it."""
    steps: int
    """Step budget."""


def choose_sub_goals(goals: list[SubGoal], variant: str) -> list[SubGoal]:
    """Select the sub-goals of a variant.

    Args:
        goals: The default sub-goals of a scene.
        variant: "default"; "three" drops pick-and-place's lift; "one" keeps only the last.

    Raises:
        TaskError: Unknown variant.
    """
    if variant not in ("default", "three", "one"):
        raise TaskError(f"Unknown sub-goal variant {variant!r}; known: default, three, one")
    if variant == "three":
        goals = [goal for goal in goals if goal.name != "lifted"]
    return goals[-1:] if variant == "one" else goals
