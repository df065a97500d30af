"""The five tasks: where things start, what counts as success, how the expert does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.errors import TaskError

Array = NDArray[np.float64]

NEAR_M = 0.04
"""Success radius [m]."""
ARM_LOW_M, ARM_HIGH_M = np.array([0.42, -0.15, 0.10]), np.array([0.60, 0.15, 0.24])
"""Where the fingertips start and reach to."""
OBJECT_LOW_M, OBJECT_HIGH_M = np.array([0.43, -0.14]), np.array([0.59, 0.14])
"""Where objects and their targets lie."""


@dataclass(frozen=True)
class Task:
    """One environment's rules."""

    name: str
    starts_holding: bool = False
    moves_object: bool = False
    """Success is about where the object ends."""
    needs_grip: bool = False
    """Success needs the object between the fingers."""
    reaches: bool = False
    """Success needs the fingertips at the goal's."""
    max_steps: int = 20


TASKS = {
    "reach": Task("reach", reaches=True, max_steps=12),
    "grasp": Task("grasp", needs_grip=True, max_steps=12),
    "reach_with_object": Task(
        "reach_with_object", starts_holding=True, needs_grip=True, reaches=True, max_steps=12
    ),
    "pick_place": Task("pick_place", moves_object=True, max_steps=30),
    "push": Task("push", moves_object=True, max_steps=30),
}


def get_task(name: str) -> Task:
    """Look a task up.

    Raises:
        TaskError: unknown name; the message lists the known ones.
    """
    if name not in TASKS:
        raise TaskError(f"Unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]


def draw_apart(rng: np.random.Generator, other_m: Array, least_m: float, most_m: float) -> Array:
    """A place [x, y] on the table between `least_m` and `most_m` from `other_m`.

    Any place on the table when the other has left it, so that nothing there is in range.
    """
    for _ in range(1000):
        place = rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M)
        if least_m <= float(np.linalg.norm(place - other_m[:2])) <= most_m:
            break
    return place


def succeeded(
    task: Task,
    *,
    tcp_m: Array,
    goal_tcp_m: Array,
    object_m: Array,
    target_m: Array,
    holding: bool,
    closed: bool,
    resting: bool,
) -> bool:
    """Whether the task's rules are met now."""
    ok = True
    if task.reaches:
        ok &= bool(np.linalg.norm(tcp_m - goal_tcp_m) <= NEAR_M)
    if task.needs_grip:
        ok &= holding and closed
    if task.moves_object:
        near = bool(np.linalg.norm(object_m[:2] - target_m[:2]) <= NEAR_M)
        ok &= near and resting and (task.name == "push" or not closed)
    return ok
