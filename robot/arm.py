"""Interface shared by real, simulated and fake arms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.constants import FLANGE_TO_TCP_M, MAX_ROTATION_RAD, MAX_STEP_M, PERIOD_S
from robot.ranges import between, check_ranges

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """State and action conventions of an arm, which a policy checks against its model's.

    Raises:
        ConfigError: A value is out of its range.
    """

    period_s: float = field(default=PERIOD_S, metadata=between(1e-3, 60, "s"))
    """Control period [s]."""
    state_frame: Literal["flange", "tcp"] = "flange"
    """Point whose position the state gives; the orientation is the flange's for both."""
    state_dim: int = field(default=7, metadata=between(1, 1024))
    """State size: x, y, z [m], extrinsic xyz Euler angles [rad], closedness 0..1."""
    action_dim: int = field(default=7, metadata=between(1, 1024))
    """Action size: change of position [m], change of rotation [rad], gripper."""
    gripper: Literal["command", "difference", "none"] = "command"
    """Meaning of the gripper action: close/keep/open command, or difference of closedness; none for
    an arm without a gripper, for which no plan uses it."""
    max_step_m: float = field(default=MAX_STEP_M, metadata=between(1e-6, 1, "m"))
    """Maximum change of position per action and axis [m]."""
    max_rotation_rad: float = field(
        default=MAX_ROTATION_RAD, metadata=between(1e-6, math.pi, "rad")
    )
    """Maximum angle of the rotation of an action [rad]."""
    flange_to_tcp_m: float = field(default=FLANGE_TO_TCP_M, metadata=between(0, 1, "m"))
    """Distance from the flange to the point between the fingertips [m]."""
    camera: str | None = None
    """Simulated camera that shows the arm: left, right or wrist; None where people place one."""

    def __post_init__(self) -> None:
        check_ranges(self)


ReasonKind = Literal[
    "arm",
    "box",
    "contact",
    "dry run",
    "gripper",
    "joints",
    "latched",
    "numbers",
    "person",
    "reach",
    "rotation",
    "state",
    "step",
    "tilt",
]
"""Limit or fault that changed or refused a command."""


@dataclass(frozen=True)
class Reason:
    """Why a command was changed or refused."""

    kind: ReasonKind
    text: str = ""
    """Requested and allowed values; may be empty."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


@dataclass(frozen=True, kw_only=True)
class ArmState:
    """A reading of an arm's sensors."""

    time_s: float
    """The arm's own clock [s]."""
    state: Array
    """Flange pose and closedness [7]: m, rad (extrinsic xyz), 0 open .. 1 closed."""
    q: Array
    """Joint positions [7, rad]."""
    dq: Array
    """Joint velocities [7, rad/s]."""
    gripper_width_m: float
    """Distance between the fingers [m]."""
    holding: bool | None = None
    """Whether an object is between the fingers; None if the arm cannot tell."""
    errors: tuple[str, ...] = ()
    """Errors that prevent motion."""
    age_s: float = 0.0
    """Age of this reading by the host's clock [s]."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A command as sent to the arm, after all limits."""

    action: Array
    """Action [7] that was sent."""
    target: Array
    """Commanded flange pose and closedness [7]."""
    reasons: tuple[Reason, ...] = ()
    """Why it differs from the request; empty if it does not."""
    refused: bool = False
    """Whether the whole command was refused and nothing was sent."""
    ended: Array | None = None
    """Commanded pose [7] at which contact ended the motion; None if it went to its target."""

    @property
    def reason_text(self) -> str:
        """All reasons in one line; empty if the command was sent unchanged."""
        return "; ".join(map(str, self.reasons))


class Closing:
    """Base of what is closed at the end of a `with` block."""

    def close(self) -> None:
        """Release what is held: by default nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Arm(Protocol):
    """A pose-controlled arm; `send` returns the command after all limits."""

    @property
    def spec(self) -> ArmSpec:
        """State and action conventions of the arm."""

    def state(self) -> ArmState:
        """Read the arm."""

    def send(self, action: ArrayLike) -> Sent:
        """Move by a DROID delta [7] and block until the control step ends."""

    def send_pose(self, target: ArrayLike) -> Sent:
        """Move the flange toward an absolute pose [7]."""

    def stop(self) -> None:
        """Stop immediately and hold the position."""

    def recover(self) -> None:
        """Clear errors; call it only after a person has inspected the arm."""

    def close(self) -> None:
        """Release the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
