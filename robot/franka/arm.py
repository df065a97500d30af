"""A Franka arm (FR3, Panda) as a `robot.Arm`, driven by libfranka in a separate process.

Targets are absolute poses of the flange; the driver adds the arm's own end-effector frame.
Requires franky (`pip install 'worldmodel[robot]'`).
"""

from __future__ import annotations

import importlib.util

import numpy as np
from numpy.typing import NDArray

from robot.arm import ArmSpec
from robot.constants import PERIOD_S
from robot.driven_arm import GUARD_S, DrivenArm
from robot.driver_messages import Order
from robot.errors import ArmError
from robot.franka.config import FrankaConfig
from robot.franka.driver import serve
from robot.kinematics import Kinematics
from robot.safety.watchdog import WatchdogConfig

Array = NDArray[np.float64]

__all__ = ["GUARD_S", "FrankaArm", "FrankaConfig", "WatchdogConfig"]

FIXES = {
    "RealtimeException": "Install a real-time kernel, or set realtime=false for a simulated arm",
    "NetworkException": "Check the cable, the address and that FCI is activated in Desk",
    "Net Exception": "Check the cable, the address and that FCI is activated in Desk",
    '"Reflex"': "The arm has errors: inspect it, then clear them in Desk",
    "timeout": "Another client holds the arm, or the address is wrong: close it, or check Desk",
}
"""Fix to suggest when a failure's text contains the key."""
COLLISIONS = "joint_reflex", "cartesian_reflex"
"""libfranka's names for errors caused by exceeding a collision threshold."""


class FrankaArm(DrivenArm):
    """A Franka; see `robot.driven_arm.DrivenArm` for its processes.

    Args:
        config: Driver options.
        watchdog: Maximum ages of heartbeat, frame and state while the arm moves.
        kind: Arm model, `fr3` or `panda`; decides the joint limits.
        joint_margin_rad: Margin kept from every joint limit [rad].

    Raises:
        ArmError: The connection failed or timed out; the message says what to check.
    """

    fixes = FIXES
    collisions = COLLISIONS

    def __init__(
        self,
        config: FrankaConfig,
        watchdog: WatchdogConfig | None = None,
        *,
        kind: str = "fr3",
        joint_margin_rad: float = 0.1,
    ) -> None:
        if importlib.util.find_spec("franky") is None:
            raise ArmError("The driver needs franky: pip install 'worldmodel[robot]'")
        self.solver = Kinematics(kind, joint_margin_rad)
        self.preempt_s = config.preempt_s
        super().__init__(config, watchdog, serve)

    @property
    def spec(self) -> ArmSpec:
        """State and action conventions of the arm."""
        return ArmSpec(period_s=self.preempt_s or PERIOD_S)

    def joints_for(self, target: Array, q: Array) -> Array:
        """Return joint positions [7, rad] that reach a pose [7], within the joint margin."""
        return self.solver.solve(target, q)

    def disconnect(self) -> None:
        """Release the arm and keep the driver process."""
        self._send(Order("disconnect"))
        self._wait(self.config.connect_timeout_s, "disconnect", beat=False)

    def connect(self) -> None:
        """Connect again after `disconnect`."""
        self._send(Order("connect"))
        self._wait(self.config.connect_timeout_s, "connect to the arm", beat=False)
        self.closed = self._is_closed()
