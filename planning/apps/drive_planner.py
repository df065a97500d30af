"""What plans a drive: the model on this machine, or a plan server on another.

This module imports no torch, which a robot's machine does not need if a server plans for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from planning.arm_options import DriveOptions
from planning.driving import Image
from planning.protocols import Agent, Box
from planning.report.live_view import Imagine
from planning.rollout import Episode
from robot.arm import ArmSpec


class DrivePlanner(Protocol):
    """Plans the actions of a drive; used as a context manager, which closes it."""

    @property
    def options(self) -> DriveOptions:
        """Options of the drive, with the model and the settings that plan in fact."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's input images [px]."""

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras that the model sees, the main one first."""

    def preprocess(self, image: Image) -> Image:
        """Return an image of any size about as the model sees it, for the report."""

    def connect(self, arm: ArmSpec, box_m: Box, interrupt: Callable[[str], None]) -> None:
        """Adopt an arm's conventions and limits.

        Args:
            arm: Conventions of the arm.
            box_m: Workspace of planned positions.
            interrupt: Called with the reason, from any thread, if no plan can be expected any
                more and a motion in progress has to be stopped.

        Raises:
            PlanError: The arm does not match the model.
        """

    def agent(self) -> Agent:
        """Return the agent that chooses the actions; `connect` comes first."""

    def facts(self) -> dict[str, Any]:
        """Return the log header's part that a replay needs: method, threads, axes and specs."""

    def imagine(self) -> Imagine | None:
        """Return what decodes imagined tokens for the live view; None without a decoder."""

    def add_imagined(self, episodes: list[Episode]) -> None:
        """Add pictures of what was imagined to the episodes, where there is a decoder."""

    def close(self) -> None:
        """Release the model or the connection."""


def open_drive_planner(options: DriveOptions) -> DrivePlanner:
    """Load the model of a drive, importing torch, or connect to its plan server, without torch.

    Args:
        options: Resolved options of the drive.
    """
    if options.remote.policy:
        from planning.apps.remote_planner import RemotePlanner

        return RemotePlanner(options)
    from planning.apps.local_planner import LocalPlanner

    return LocalPlanner(options)
