"""Gymnasium environments: a Franka arm at a table, in MuJoCo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.arm_env import ArmEnv
    from envs.tasks import Task

IDS = {
    "reach": "FrankaReach-v0",
    "grasp": "FrankaGrasp-v0",
    "reach_with_object": "FrankaReachWithObject-v0",
    "pick_place": "FrankaPickPlace-v0",
    "push": "FrankaPush-v0",
    "push_pose": "FrankaPushPose-v0",
    "two_objects": "FrankaTwoObjects-v0",
    "over_wall": "FrankaOverWall-v0",
    "sort": "FrankaSort-v0",
}


def make(task: str | Task = "reach", **options: Any) -> ArmEnv:
    """Create an environment.

    Args:
        task: Name in `IDS`, or your own task.
        **options: Passed to `ArmEnv`.

    Raises:
        TaskError: Unknown task, object, split or camera.
        RenderingError: This machine cannot render.
    """
    from envs.arm_env import ArmEnv

    return ArmEnv(task, **options)


def register() -> None:
    """Register the ids in `IDS` with Gymnasium, for `gymnasium.make`."""
    import gymnasium

    for task, name in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point="envs:make", kwargs={"task": task})
