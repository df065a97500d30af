"""Adapters that expose the franky-sim internals used by the twin.

franky-sim has no public API for changing what a command does or for holding an arm in place. All
uses of its private attributes are in this file, which first checks the installed version.
"""

from __future__ import annotations

import importlib.metadata
import socket
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from envs.errors import TwinError

TESTED = "1.0."
"""Prefix of the franky-sim versions that the twin is tested with."""


def require_franky_sim() -> None:
    """Check that a supported franky-sim is installed, without importing it.

    Raises:
        TwinError: franky-sim is missing or another version; the message has the pip command.
    """
    try:
        found = importlib.metadata.version("franky-sim")
    except importlib.metadata.PackageNotFoundError as error:
        raise TwinError(
            "The twin needs franky-sim, which is not installed: pip install 'worldmodel[twin]'"
        ) from error
    if not found.startswith(TESTED):
        raise TwinError(
            f"franky-sim {found} is installed; supported: {TESTED}x. The twin relies on its "
            f"internals: pip install 'franky-sim=={TESTED}*'"
        )


require_franky_sim()

from franky_sim import BaseSimulator, SimulationServer  # noqa: E402 - after the version check
from franky_sim.franka_robot_protocol import (  # noqa: E402
    AutomaticErrorRecoveryCommand,
    AutomaticErrorRecoveryStatus,
    BaseCommand,
    MoveCommand,
    MoveStatus,
    RobotCommand,
    RobotMode,
    SetCollisionBehaviorCommand,
    UDPCommand,
)
from franky_sim.franka_robot_server import FrankaRobotServer  # noqa: E402
from franky_sim.franka_robot_state import FrankaRobotState  # noqa: E402
from franky_sim.mujoco_simulator import FrankaMujocoRobot  # noqa: E402

__all__ = [
    "AutomaticErrorRecoveryCommand",
    "AutomaticErrorRecoveryStatus",
    "BaseCommand",
    "FrankaRobotState",
    "MoveCommand",
    "MoveStatus",
    "OpenRobot",
    "OpenRobotServer",
    "OpenServer",
    "OpenSimulator",
    "RobotCommand",
    "RobotMode",
    "SetCollisionBehaviorCommand",
    "UDPCommand",
]


class OpenRobot(FrankaMujocoRobot):
    """franky-sim's simulated arm; subclasses override `move_joints` and `before_step`."""

    def attach_to(self, model: Any, data: Any) -> None:
        """Use this `mujoco.MjModel` and `mujoco.MjData`, whose names have no prefix."""
        self._attach_to_scene(model, data, "")

    def move_joints(self, target_q: Any) -> None:
        """Apply the servo torques toward joint positions [7, rad]."""
        super()._joint_position_control(target_q)

    def before_step(self) -> None:
        """Prepare the controls of one physics step; does nothing."""

    def _joint_position_control(self, target_q: Any) -> None:
        self.move_joints(target_q)

    def _pre_step(self) -> None:
        self.before_step()


class OpenSimulator(BaseSimulator):
    """franky-sim's simulator of one arm; subclasses override `start_physics` and `step_physics`.

    Args:
        robot: The arm.
    """

    def __init__(self, robot: OpenRobot) -> None:
        super().__init__()
        self.robot = robot

    @abstractmethod
    def start_physics(self) -> None:
        """Put the arm at its initial joint positions."""

    @abstractmethod
    def step_physics(self) -> None:
        """Advance the physics by a millisecond."""

    def _get_robots(self) -> list[OpenRobot]:
        return [self.robot]

    def _start(self) -> None:
        self.start_physics()

    def _step(self) -> None:
        self.step_physics()


class OpenRobotServer(FrankaRobotServer):
    """franky-sim's protocol server of one arm with access to its commands, sockets and hold."""

    def replace_commands(self, classes: Mapping[Any, type[Any]]) -> None:
        """Handle commands with these classes instead of franky-sim's."""
        self._FrankaServer__command_class_map |= dict(classes)

    @property
    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """UDP and TCP sockets of the client."""
        return self._FrankaServer__udp_socket, self._tcp_socket

    def hold(self, q: tuple[float, ...]) -> None:
        """Hold joint positions [7, rad] while no motion is in progress."""
        self._FrankaRobotServer__holding_q = q

    def set_command(self, command: UDPCommand) -> None:
        """Act as if the client had sent this command."""
        self._FrankaRobotServer__current_control_command = command

    def reset_session(self) -> None:
        """Forget the client's session."""
        super()._reset_state()

    def _reset_state(self) -> None:
        self.reset_session()


class OpenServer(SimulationServer):
    """franky-sim's server of a simulation."""

    @property
    def free_addresses(self) -> Iterator[str]:
        """Yield loopback addresses that no arm of this server uses."""
        return self._remaining_hostname_candidates
