"""Sub-goals of a task: goal images of a scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from envs.errors import TaskError
from envs.expert import run_expert
from envs.experts import expert_points
from envs.layout import Layout
from envs.tasks import Task, is_one_image
from envs.world import World

MAIN_CAMERA = ("left",)
VARIANTS = ("default", "three", "last", "one")
"""Variants of the sub-goals; see `render_sub_goals`."""


@dataclass(frozen=True)
class SubGoal:
    """A goal image and its step budget."""

    name: str
    image: NDArray[np.uint8]
    """RGB [H, W, 3]."""
    state: NDArray[np.float32]
    """Robot state [7] in the image; the pose-only baseline uses it, and agents with skills, to tell
    whether the arm is at its start."""
    steps: int
    """Step budget."""
    others: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Images of further cameras by name; empty for the main one alone."""


def choose_sub_goals(goals: list[SubGoal], variant: str) -> list[SubGoal]:
    """Select the sub-goals of a variant from those of the expert.

    Args:
        goals: All sub-goals, or the one image of variant "one".
        variant: Name in `VARIANTS`.

    Raises:
        TaskError: Unknown variant, or "three" of goals without a lift.
    """
    if variant not in VARIANTS:
        raise TaskError(f"Unknown sub-goal variant {variant!r}; known: {', '.join(VARIANTS)}")
    names = [goal.name for goal in goals]
    if variant == "three":
        if goals and "lifted" not in names:
            raise TaskError(
                f"Variant 'three' leaves out the lift, and the sub-goals are {', '.join(names)}; "
                "allowed here: default, last, one"
            )
        goals = [goal for goal in goals if goal.name != "lifted"]
    return goals[-1:] if variant in ("last", "one") else goals


def render_sub_goals(
    world: World, task: Task, layout: Layout, variant: str, cameras: Sequence[str] = MAIN_CAMERA
) -> list[SubGoal]:
    """Render the goal images of an episode that has just begun, then restore the simulation.

    | variant | images |
    |---|---|
    | default | the expert's sub-goals; of push and the tasks in `ONE_IMAGE`, the same as one |
    | three | without pick-and-place's lift; other tasks have none, and refuse it |
    | last | only the last of default |
    | one | the objects at their targets, the arm at its start with the gripper open; of tasks that
    move no object, the same as last |

    Args:
        world: The scene at the start of the episode.
        task: The task.
        layout: Start and goal of the episode.
        variant: Name in `VARIANTS`.
        cameras: Cameras of the images, the main one first.

    Raises:
        TaskError: Unknown variant, or "three" of a task without a lift.
    """
    choose_sub_goals([], variant)
    saved = world.arm.snapshot()
    if task.num_moving and (variant == "one" or task.name == "push" or is_one_image(task)):
        targets = zip(world.objects, layout.targets_m, layout.target_yaws_rad, strict=True)
        for item, target_m, yaw_rad in list(targets)[: task.num_moving]:
            item.put(target_m, yaw_rad)
        name = "pushed" if task.name == "push" else "placed"
        goals = [picture(world, name, task.max_steps, cameras)]
    else:
        goals = []
        for point in expert_points(task, world.arm, world.objects, layout):
            run_expert(world.arm, [point])
            if point.name:
                goals.append(picture(world, point.name, point.steps, cameras))
    world.arm.restore(saved)
    return choose_sub_goals(goals, variant)


def picture(world: World, name: str, steps: int, cameras: Sequence[str] = MAIN_CAMERA) -> SubGoal:
    """Render the current state as a goal, with an image of each camera, the main one first."""
    image, *further = (world.renderer.render(world.data, camera) for camera in cameras)
    others = dict(zip(cameras[1:], further, strict=True))
    return SubGoal(name, image, world.arm.state().state.astype(np.float32), steps, others)
