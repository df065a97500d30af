"""The five tasks: initial positions and success criteria."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.errors import TaskError

Array = NDArray[np.float64]

NEAR_M = 0.04
"""Success radius [m]."""
ARM_LOW_M, ARM_HIGH_M = np.array([0.42, -0.15, 0.10]), np.array([0.60, 0.15, 0.24])
"""Workspace of the fingertips' initial and goal positions [m]."""
OBJECT_LOW_M, OBJECT_HIGH_M = np.array([0.43, -0.14]), np.array([0.59, 0.14])
"""Workspace of object and target positions [m]."""


@dataclass(frozen=True)
class Task:
    """Initial conditions and success criteria of a task."""

    name: str
    starts_holding: bool = False
    """Whether the arm holds the object at the start."""
    moves_object: bool = False
    """Whether success requires the object at its target."""
    needs_grip: bool = False
    """Whether success requires the object between the fingers."""
    reaches: bool = False
    """Whether success requires the fingertips at the goal."""
    max_steps: int = 20
    """Control steps until truncation."""


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
    """Look up a task.

    Raises:
        TaskError: Unknown name; the message lists the known ones.
    """
    if name not in TASKS:
        raise TaskError(f"Unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]


def draw_apart(rng: np.random.Generator, other_m: Array, least_m: float, most_m: float) -> Array:
    """Draw a position [x, y] on the table within a range of distances from another one.

    If no position is in range, because the other one is off the table, return any position.

    Args:
        rng: Random generator.
        other_m: The other position [>=2, m].
        least_m: Smallest distance [m].
        most_m: Maximum distance [m].
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
    """Return whether the task's success criteria are met.

    Args:
        task: Task with the success criteria.
        tcp_m: Position of the point between the fingertips [3, m].
        goal_tcp_m: Goal of that point [3, m].
        object_m: Position of the object's centre [3, m].
        target_m: Target of the object [3, m].
        holding: Whether the object is between the closed fingers.
        closed: Whether the gripper was last commanded to close.
        resting: Whether the object rests on the table.
    """
    ok = True
    if task.reaches:
        ok &= bool(np.linalg.norm(tcp_m - goal_tcp_m) <= NEAR_M)
    if task.needs_grip:
        ok &= holding and closed
    if task.moves_object:
        near = bool(np.linalg.norm(object_m[:2] - target_m[:2]) <= NEAR_M)
        ok &= near and resting and (task.name == "push" or not closed)
    return ok
