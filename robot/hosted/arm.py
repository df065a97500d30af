"""An arm of a user's own class as a `robot.Arm`, in its own process under the watchdog.

The class has the methods of `robot.arm.Arm`. An instance is created in the driver process, so a
`send_pose` that hangs or crashes there cannot keep the planner process from stopping the arm.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robot.arm import Arm, ArmSpec
from robot.driven_arm import DrivenArm
from robot.errors import ArmError
from robot.hosted.config import HostedConfig
from robot.hosted.driver import serve
from robot.safety.watchdog import WatchdogConfig

Array = NDArray[np.float64]


class HostedArm(DrivenArm):
    """Runs a user's arm in a driver process; see `robot.driven_arm.DrivenArm`.

    While the arm moves, `send_pose` runs in a thread of the driver process, which calls `state` and
    `stop` from another thread.

    Args:
        make: Class or function that connects to the arm, called in the driver process; it must be
            importable there by its name.
        config: Name and time limits; None for the defaults.
        watchdog: Maximum ages of heartbeat, frame and state while the arm moves.

    Raises:
        ArmError: The arm cannot be created or lacks a method, or does not answer.
    """

    collisions = ("ReflexError",)

    def __init__(
        self,
        make: Callable[[], Arm],
        config: HostedConfig | None = None,
        watchdog: WatchdogConfig | None = None,
    ) -> None:
        super().__init__(config or HostedConfig(), watchdog, partial(serve, make))

    @property
    def spec(self) -> ArmSpec:
        """State and action conventions that the arm declares.

        Raises:
            ArmError: The arm is not connected.
        """
        if self._answered.spec is None:
            raise ArmError(f"Not connected to {self.config.address}: create a new HostedArm")
        return self._answered.spec

    def joints_for(self, target: Array, q: Array) -> Array:
        """Return the current joint positions: the arm solves for its own."""
        return q
