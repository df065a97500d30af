"""The tasks: initial conditions and success criteria."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.errors import TaskError

Array = NDArray[np.float64]

NEAR_M = 0.04
"""Default success radius [m]."""
STILL_M = 0.03
"""An object that has to stay may move by this much [m]."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Initial conditions and success criteria of a task."""

    name: str
    starts_holding: bool = False
    """Whether the arm holds the object at the start."""
    needs_grip: bool = False
    """Whether success requires the object between the fingers."""
    reaches: bool = False
    """Whether success requires the fingertips at the goal."""
    num_objects: int = 1
    """Number of objects; those that do not move have to stay within `STILL_M`."""
    num_moving: int = 0
    """Number of objects, the first ones, that have to be at rest at their targets."""
    near_m: float = NEAR_M
    """Success radius [m]."""
    near_rad: float = np.inf
    """Maximum error of an object's yaw, modulo its symmetry [rad]."""
    opens: bool = False
    """Whether success requires that the gripper was last commanded to open."""
    has_wall: bool = False
    """Whether a wall stands between the object and its target."""
    objects: tuple[str, ...] = ("cube",)
    """Default shapes."""
    max_steps: int = 20
    """Control steps until truncation."""

    @property
    def asks_yaw(self) -> bool:
        """Whether success depends on the yaw of an object."""
        return bool(np.isfinite(self.near_rad))


TASKS = {
    "reach": Task(name="reach", reaches=True, max_steps=12),
    "grasp": Task(name="grasp", needs_grip=True, max_steps=12),
    "reach_with_object": Task(
        name="reach_with_object", starts_holding=True, needs_grip=True, reaches=True, max_steps=12
    ),
    "pick_place": Task(name="pick_place", num_moving=1, opens=True, max_steps=30),
    "push": Task(name="push", num_moving=1, max_steps=30),
    "push_pose": Task(
        name="push_pose",
        num_moving=1,
        near_m=0.03,
        near_rad=float(np.radians(15)),
        objects=("long_box",),
        max_steps=60,
    ),
    "two_objects": Task(name="two_objects", num_objects=2, num_moving=1, max_steps=60),
    "over_wall": Task(name="over_wall", num_moving=1, has_wall=True, max_steps=30),
    "sort": Task(name="sort", num_objects=3, num_moving=3, max_steps=90),
}
ONE_IMAGE = ("push_pose", "two_objects", "over_wall", "sort")
"""Tasks whose default goal is one image of the objects at their targets."""


def is_one_image(task: Task) -> bool:
    """Return whether a task's default goal is one image of the objects at their targets.

    It is for tasks of users that move objects, whatever their name.
    """
    return task.name in ONE_IMAGE or (task.num_moving > 0 and task.name not in TASKS)


def get_task(name: str) -> Task:
    """Look up a task.

    Raises:
        TaskError: Unknown name; the message lists the known ones.
    """
    if name not in TASKS:
        raise TaskError(f"Unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]


@dataclass(frozen=True, kw_only=True)
class ObjectError:
    """Distance of an object from where it should be."""

    distance_m: float
    """Horizontal distance from its target, or from its start if it has to stay [m]."""
    yaw_rad: float
    """Angle from its target yaw, modulo its symmetry [rad]."""
    resting: bool
    """Whether it rests on the table."""


def succeeded(
    task: Task,
    *,
    tcp_m: Array,
    goal_tcp_m: Array,
    errors: list[ObjectError],
    holding: bool,
    closed: bool,
) -> bool:
    """Return whether the task's success criteria are met.

    Args:
        task: Task with the success criteria.
        tcp_m: Position of the point between the fingertips [3, m].
        goal_tcp_m: Goal of that point [3, m].
        errors: Errors of the task's objects in order; more objects are ignored.
        holding: Whether an object is between the closed fingers.
        closed: Whether the gripper was last commanded to close.
    """
    moving, staying = errors[: task.num_moving], errors[task.num_moving : task.num_objects]
    placed = all(
        e.distance_m <= task.near_m and e.yaw_rad <= task.near_rad and e.resting for e in moving
    )
    stayed = not moving or all(e.distance_m <= STILL_M for e in staying)
    reached = not task.reaches or bool(np.linalg.norm(tcp_m - goal_tcp_m) <= task.near_m)
    gripped = not task.needs_grip or (holding and closed)
    return placed and stayed and reached and gripped and not (task.opens and closed)
