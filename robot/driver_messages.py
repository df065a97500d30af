"""Messages between the planner process and the process that drives an arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.arm import ArmSpec, Reason
from robot.safety.shared_state import Clock

Array = NDArray[np.float64]

UNREACHABLE = "UnreachableError"
"""Name of the error with which an arm refuses a pose that it cannot reach."""


@dataclass(frozen=True)
class Order:
    """A command to the driver process."""

    kind: Literal["go", "recover", "connect", "disconnect", "end"]
    target: Array | None = None
    """`go`: flange pose and closedness [7]."""
    joints: Array | None = None
    """`go`: joint positions [7, rad] that reach the pose."""


@dataclass(frozen=True)
class Answer:
    """A reply from the driver process."""

    kind: Literal["started", "ready", "done", "stopped", "failed"]
    text: str = ""
    """`stopped` and `failed`: reason."""
    reasons: tuple[Reason, ...] = ()
    """`done`: how the motion differed from the command; empty if it did not."""
    ended: Array | None = None
    """`done`: commanded pose [7] at which contact ended the motion."""
    spec: ArmSpec | None = None
    """`ready`: conventions of the arm, where only the driver knows them."""


class DriverConfig(Protocol):
    """Settings of a driver that the planner process needs."""

    @property
    def address(self) -> str:
        """What the driver connects to, for messages."""

    @property
    def connect_timeout_s(self) -> float:
        """Connection timeout [s]."""

    @property
    def motion_timeout_s(self) -> float:
        """Motion timeout [s]."""

    @property
    def clock(self) -> Clock:
        """Clock of the time limits."""
