"""Draw the start and the goal of an episode for each task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.embodiment import FRANKA
from envs.errors import TaskError
from envs.layout import (
    ARM_HIGH_M,
    ARM_LOW_M,
    MAX_DRAWS,
    OBJECT_HIGH_M,
    OBJECT_LOW_M,
    Clutter,
    Layout,
    draw_apart,
    draw_places,
    draw_wall,
    fits,
)
from envs.objects import Wall
from envs.tasks import Task

Array = NDArray[np.float64]
Draw = Callable[[Task, list[float], np.random.Generator], Layout]

TURN_RAD = (np.radians(30), np.radians(90))
"""Range of the change of yaw in push_pose [rad]."""
FINGER_ROOM_M = 0.035
"""Room for the open fingers between two places, beyond the clearance [m]."""


def _draw_single(task: Task, radii_m: list[float], rng: np.random.Generator) -> Layout:
    """Draw for a task with one object at yaw 0."""
    tcp = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
    place = rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M)
    target = draw_apart(rng, place, 0.08, 0.3)
    if task.name == "push":
        target = draw_apart(rng, place, 0.07, 0.15)
    goal_tcp = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
    while np.linalg.norm(goal_tcp - tcp) < 0.08:
        goal_tcp = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
    return Layout(
        tcp_m=tcp,
        goal_tcp_m=goal_tcp,
        objects_m=[place],
        yaws_rad=[0.0],
        targets_m=[target],
        target_yaws_rad=[0.0],
    )


def _draw_push_pose(task: Task, radii_m: list[float], rng: np.random.Generator) -> Layout:
    tcp = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
    place = rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M)
    yaw = float(rng.uniform(-np.pi, np.pi))
    turn = float(rng.choice([-1.0, 1.0]) * rng.uniform(*TURN_RAD))
    return Layout(
        tcp_m=tcp,
        objects_m=[place],
        yaws_rad=[yaw],
        targets_m=[draw_apart(rng, place, 0.05, 0.15)],
        target_yaws_rad=[yaw + turn],
    )


def _draw_several(task: Task, radii_m: list[float], rng: np.random.Generator) -> Layout:
    """Draw places for objects and targets with room for the fingers between them."""
    tcp = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
    count, moving = len(radii_m), task.num_moving
    roomy = [radius + FINGER_ROOM_M / 2 for radius in (*radii_m, *radii_m[:moving])]
    for _ in range(MAX_DRAWS):
        places = draw_places(rng, roomy)
        if all(np.linalg.norm(places[i] - places[count + i]) > 0.08 for i in range(moving)):
            break
    else:
        raise TaskError(f"No room for the objects of {task.name}; use smaller shapes, such as cube")
    yaws = [float(yaw) for yaw in rng.uniform(-np.pi, np.pi, count)]
    return Layout(
        tcp_m=tcp,
        objects_m=places[:count],
        yaws_rad=yaws,
        targets_m=[*places[count:], *places[moving:count]],
        target_yaws_rad=yaws,
    )


def _draw_over_wall(
    task: Task, radii_m: list[float], rng: np.random.Generator, eye_m: Array
) -> Layout:
    """Draw a path across the camera's view, and a wall across its middle.

    The object's sides are roughly parallel to the wall, so that the hand fits beside it.
    """
    for _ in range(MAX_DRAWS):
        tcp = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
        place = rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M)
        target = draw_apart(rng, place, 0.15, 0.26)
        along = float(np.arctan2(*(target - place)[::-1]))
        yaw = along + float(rng.normal(0, 0.12))
        wall = draw_wall(rng, place + rng.uniform(0.45, 0.55) * (target - place), yaw)
        if fits(wall, tcp, [place, target], radii_m * 2, eye_m):
            break
    else:
        raise TaskError(f"No room for the wall of {task.name}; use smaller shapes, such as cube")
    turned = yaw + float(rng.normal(0, 0.12))
    return Layout(
        tcp_m=tcp,
        objects_m=[place],
        yaws_rad=[turned],
        targets_m=[target],
        target_yaws_rad=[turned],
        wall=wall,
    )


SPECIAL: dict[str, Draw] = {
    "push_pose": _draw_push_pose,
    "two_objects": _draw_several,
    "sort": _draw_several,
}


def draw_layout(
    task: Task, radii_m: list[float], rng: np.random.Generator, eye_m: Array = FRANKA.left_m
) -> Layout:
    """Draw the start and the goal of an episode.

    Args:
        task: The task.
        radii_m: Largest horizontal extent of each object from its origin [m].
        rng: Random generator.
        eye_m: Position of the camera that a wall may not hide objects from [3, m].

    Raises:
        TaskError: The objects are too large for the table.
    """
    if task.name == "over_wall":
        return _draw_over_wall(task, radii_m, rng, eye_m)
    return SPECIAL.get(task.name, _draw_single)(task, radii_m, rng)


def draw_clutter(
    clutter: Clutter,
    radii_m: list[float],
    wall: bool,
    rng: np.random.Generator,
    eye_m: Array = FRANKA.left_m,
) -> Layout:
    """Draw the start of an episode without a goal: arm, objects and a wall at random places.

    Raises:
        TaskError: The objects are too large for the table.
    """
    yaws = [
        float(rng.uniform(-np.pi, np.pi)) if rng.random() < clutter.turned else 0.0 for _ in radii_m
    ]
    for _ in range(MAX_DRAWS):
        tcp = rng.uniform(ARM_LOW_M, ARM_HIGH_M)
        places = draw_places(rng, radii_m)
        made: Wall | None = None
        if wall:
            centre = rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M)
            made = draw_wall(rng, centre, float(rng.uniform(-np.pi / 2, np.pi / 2)))
        if made is None or fits(made, tcp, places, radii_m, eye_m):
            return Layout(
                tcp_m=tcp,
                objects_m=places,
                yaws_rad=yaws,
                targets_m=places,
                target_yaws_rad=yaws,
                wall=made,
            )
    raise TaskError("No room for a wall beside the objects; use smaller shapes")
