"""What a scene's true state says about the task."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.layout import Layout
from envs.shapes import yaw_difference
from envs.tasks import ObjectError, Task, succeeded
from envs.world import World


def object_errors(world: World, layout: Layout) -> list[ObjectError]:
    """Return the error of each object."""
    targets = zip(world.objects, layout.targets_m, layout.target_yaws_rad, strict=True)
    return [
        ObjectError(
            distance_m=float(np.linalg.norm(item.position_m[:2] - target)),
            yaw_rad=yaw_difference(item.yaw_rad, yaw, item.shape.yaw_period_rad),
            resting=item.is_resting,
        )
        for item, target, yaw in targets
    ]


def is_solved(world: World, task: Task, layout: Layout) -> bool:
    """Return whether the task's success criteria are met."""
    return succeeded(
        task,
        tcp_m=world.tcp_m,
        goal_tcp_m=layout.goal_tcp_m,
        errors=object_errors(world, layout),
        holding=world.arm.holding(),
        closed=world.arm.closed,
    )


def describe(world: World, task: Task, layout: Layout) -> dict[str, Any]:
    """Return the entries of `ArmEnv.info` other than `success`."""
    first, errors = world.objects[0], object_errors(world, layout)[: task.num_moving]
    return {
        "tcp_m": world.tcp_m,
        "object_m": first.position_m,
        "target_m": np.append(layout.targets_m[0], first.half_height_m),
        "goal_tcp_m": layout.goal_tcp_m.copy(),
        "holding": world.arm.holding(),
        "objects": np.stack([item.pose for item in world.objects]),
        "errors_m": np.array([error.distance_m for error in errors]),
        "yaw_errors_rad": np.array([error.yaw_rad for error in errors]),
    }
