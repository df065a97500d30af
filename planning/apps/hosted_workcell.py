"""Workcell of an arm of a user's own class, in its own process under the watchdog."""

from __future__ import annotations

from planning.apps.franka_workcell import (
    interrupt_motion,
    watchdog_ages,
    watched_camera,
    watched_view,
)
from planning.apps.open_camera import open_camera
from planning.apps.workcell import Workcell, read_limits
from planning.errors import PlanError
from planning.plugins import load
from planning.workcell_options import WorkcellOptions
from robot.arm import Arm
from robot.cameras.camera import Camera
from robot.hosted import HostedArm, HostedConfig


class HostedWorkcell(Workcell):
    """An arm that `robot=module:Class` names, with its camera and its safety limits.

    Raises:
        PlanError: The class cannot be loaded.
        ArmError: The arm cannot be created, or lacks a method.
    """

    def __init__(self, options: WorkcellOptions) -> None:
        patience = options.franka.patience
        self.max_age_s = Workcell.max_age_s * patience
        self.frozen_s = Workcell.frozen_s * patience
        self.limits = read_limits(options.limits)
        make = load("robot", options.robot)
        if not callable(make):
            raise PlanError(f"robot={options.robot} is not a class or function. Name one of them.")
        usual = HostedConfig()
        config = HostedConfig(
            address=options.robot,
            connect_timeout_s=usual.connect_timeout_s * patience,
            motion_timeout_s=usual.motion_timeout_s * patience,
        )
        driven = HostedArm(make, config, watchdog_ages(patience))
        try:
            source = open_camera(options.camera, live=True, patience=patience)
            self.camera: Camera = watched_camera(source, driven)
        except BaseException:
            driven.close()
            raise
        self.arm: Arm = driven

    def open_view(self, name: str, source: str) -> Camera:
        """Open the camera of another view, whose failure stops a moving arm."""
        return watched_view(super().open_view(name, source), self.arm, name)

    def interrupt(self, why: str) -> None:
        """Stop a motion in progress, from any thread."""
        interrupt_motion(self.arm, why)
