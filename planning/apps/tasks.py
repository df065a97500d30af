"""Table scenes, with our tasks or the user's own."""

from __future__ import annotations

import envs
from envs.arm_env import ArmEnv
from envs.goals import MAIN_CAMERA
from envs.tasks import Task, get_task
from planning.errors import PlanError
from planning.options import SceneOptions
from planning.plugins import is_own, load


def find_task(name: str) -> Task:
    """Return the task that `task=` names; an empty name is reach.

    Raises:
        PlanError: A user's task cannot be loaded, is not a task, or has the name of one of ours.
    """
    if not name or is_own("task", name):
        return get_task(name or "reach")
    found = load("task", name)
    if not isinstance(found, Task):
        raise PlanError(f"task={name} is not an envs.tasks.Task. Make one of that class.")
    if is_own("task", found.name):
        raise PlanError(
            f"task={name} is called {found.name}, which is one of our own tasks. Give it another "
            "name."
        )
    return found


def make_scene(
    scene: SceneOptions,
    image_size: int,
    *,
    cameras: tuple[str, ...] = MAIN_CAMERA,
    goal_cameras: tuple[str, ...] = MAIN_CAMERA,
) -> ArmEnv:
    """Create the environment of a simulated scene.

    Args:
        scene: Task, appearance, objects and arm.
        image_size: Height of the images [px].
        cameras: Cameras of the observations.
        goal_cameras: Cameras of the goal images.

    Raises:
        PlanError: A user's task cannot be loaded, is not a task, or has the name of one of ours.
    """
    return envs.make(
        find_task(scene.task),
        split=scene.split,
        objects=scene.objects,
        factor=scene.factor,
        embodiment=scene.embodiment,
        image_size=image_size,
        cameras=cameras,
        goal_cameras=goal_cameras,
    )
