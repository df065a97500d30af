"""What an arm is: simulated, real, or fake. What was SENT is what is returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ArmState:
    """One reading of an arm."""

    time_s: float
    """The arm's own clock [s]."""
    state: Array
    """Flange pose and closedness [7]: m, rad (extrinsic xyz), 0 open .. 1 closed."""
    q: Array
    """Joint positions [7, rad]."""
    dq: Array
    """Joint velocities [7, rad/s]."""
    gripper_width_m: float
    holding: bool | None = None
    """Whether something is between the fingers; None where the arm cannot tell."""
    errors: tuple[str, ...] = ()
    age_s: float = 0.0
    """How long ago the arm gave this reading [s], by this machine's clock."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What went to the arm, after every clip."""

    action: Array
    """Action [7] as sent."""
    target: Array
    """Commanded flange pose and closedness [7]."""
    reasons: tuple[str, ...] = ()
    """Why it differs from what was asked; empty if it does not."""
    refused: bool = False
    """Nothing was sent at all."""
    ended: Array | None = None
    """Commanded pose [7] at which contact ended the motion; None: it went to its target."""


class Arm(Protocol):
    """An arm under 4 Hz pose control."""

    def state(self) -> ArmState:
        """Read the arm."""
        ...

    def send(self, action: ArrayLike) -> Sent:
        """Move by an action [7] (DROID delta); returns when the control step is over."""
        ...

    def send_pose(self, target: ArrayLike) -> Sent:
        """Move the flange toward an absolute pose [7]."""
        ...

    def stop(self) -> None:
        """Stop at once and stay."""
        ...

    def recover(self) -> None:
        """Clear errors after a person has looked."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
