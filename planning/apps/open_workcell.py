"""Open the workcell selected by `robot=` or `environment=`, importing drivers on demand."""

from __future__ import annotations

from planning.apps.workcell import DEFAULT_IMAGE_SIZE, FakeWorkcell, MujocoWorkcell, Workcell
from planning.workcell_options import WorkcellOptions, is_users


def open_workcell(options: WorkcellOptions, image_size: int = DEFAULT_IMAGE_SIZE) -> Workcell:
    """Connect to the arm and camera selected by `robot=` or `environment=`.

    Args:
        options: Arm, camera, limits and scene.
        image_size: Side of a simulated camera's images [px].
    """
    if options.environment:
        from planning.apps.environment_workcell import EnvironmentWorkcell

        return EnvironmentWorkcell(options, image_size)
    if options.robot == "franka":
        from planning.apps.franka_workcell import FrankaWorkcell

        return FrankaWorkcell(options)
    if options.robot == "twin":
        from planning.apps.franka_workcell import TwinWorkcell

        return TwinWorkcell(options, image_size)
    if is_users(options.robot):
        from planning.apps.hosted_workcell import HostedWorkcell

        return HostedWorkcell(options)
    return (FakeWorkcell if options.robot == "fake" else MujocoWorkcell)(options, image_size)
