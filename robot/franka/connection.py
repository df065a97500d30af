"""Connection to a Franka and its gripper: opens it, reads the arm, and recovers from stalls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robot.constants import MAX_WIDTH_M
from robot.franka.config import FrankaConfig
from robot.franka.gripper import GripperWorker
from robot.grippers.gripper import HandOf
from robot.pose import matrix_to_euler
from robot.safety.shared_state import Reading, SharedArmState

STALLS = "Timeout", "Net Exception"
"""Words in errors of a connection whose other end does not answer in time."""


class FrankaConnection:
    """Owns the connection and publishes readings of the arm.

    Args:
        config: Driver options.
        link: Memory shared with the planner process and the watchdog.
    """

    def __init__(self, config: FrankaConfig, link: SharedArmState) -> None:
        self.config, self.link = config, link
        self.robot: Any = None
        self.gripper: GripperWorker | None = None
        self.moving = self.stopping = self.waiting = self.cut_off = False
        self.clock = self.clock_offset = self.speed = 0.0
        self.error = ""

    def connect(self) -> None:
        """Connect to the arm and its gripper."""
        self._open()
        self.gripper = GripperWorker(self._hand, self.config)
        self.moving = self.stopping = self.waiting = self.cut_off = False
        self.error = ""
        self.publish()

    def _hand(self) -> Any:
        """Connect to the Franka hand, or to the gripper in its place."""
        if self.config.make_gripper is not None:
            return HandOf(self.config.make_gripper())
        import franky

        return franky.Gripper(self.config.address)

    def _open(self) -> None:
        """Connect to the arm and pass it the limits."""
        import franky

        kernel = franky.RealtimeConfig
        wanted = kernel.Enforce if self.config.realtime else kernel.Ignore
        self.robot = franky.Robot(self.config.address, realtime_config=wanted)
        self.robot.set_collision_behavior(self.config.max_torque_nm, self.config.max_force_n)
        # motions use a share of every limit, but stops use all of it
        limit = self.robot.translation_velocity_limit
        limit.set(min(limit.max, self.config.max_speed_m_s / self.config.dynamics))
        limit = self.robot.rotation_velocity_limit
        limit.set(min(limit.max, self.config.max_turn_rad_s / self.config.dynamics))
        self.to_ee = np.asarray(self.robot.state.F_T_EE.matrix)

    def _reopen(self, error: Exception) -> bool:
        """Connect again after a stall of a simulated arm; return False if that is not the case.

        libfranka gives up after a second of the host's time without a packet, and the server may
        wait for a command at the same time.
        """
        if self.config.clock != "arm" or not any(word in str(error) for word in STALLS):
            return False
        self.robot = None  # closes the connection, which ends the motion
        self.cut_off = self.moving
        self._open()
        return True

    def _clock_s(self, state: Any) -> float:
        """Return the arm's clock, which restarts on a new connection, as one that never does."""
        clock = float(state.time.to_sec())
        if clock < self.clock:
            self.clock_offset += self.clock
        self.clock = clock
        return self.clock_offset + clock

    def _patiently(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # franky does not export all of its errors
            if not self._reopen(error):
                raise
            act()

    def disconnect(self) -> None:
        """Release the connection."""
        if self.gripper is not None:
            self.gripper.end()
        self.robot = self.gripper = None

    def publish(self) -> None:
        """Write a reading of the arm to shared memory."""
        if self.robot is None or self.gripper is None:
            return
        state = self.robot.state
        flange = np.asarray(state.O_T_EE.matrix) @ np.linalg.inv(self.to_ee)
        width = self.gripper.width_m
        closed = float(np.clip(1.0 - width / MAX_WIDTH_M, 0.0, 1.0))
        pose = np.concatenate([flange[:3, 3], matrix_to_euler(flange[:3, :3]), [closed]])
        holding = self.gripper.closed and width > self.config.min_held_m and not self.gripper.busy
        self.speed = float(np.abs(state.dq).max())
        if self.moving and not np.isfinite([*pose, *state.q, *state.dq]).all():
            self.link.stop("the arm's state is not finite")
        if self.moving and self.gripper.lost:
            self.link.stop(f"gripper: {self.gripper.lost}")
        names = str(state.current_errors).strip("[]")
        self.link.write(
            Reading(
                clock_s=self._clock_s(state),
                state=pose,
                q=np.asarray(state.q),
                dq=np.asarray(state.dq),
                width_m=width,
                holding=holding,
                moving=self.moving,
            ),
            self.error or self.gripper.lost or names,
        )
