"""Interface of grippers that replace the Franka hand, and how its driver sees them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

POLL_S = 0.01
"""Polling period while a movement is in progress [s]."""


class Gripper(Protocol):
    """A gripper with parallel fingers; all methods are called from one thread.

    Every method raises `robot.errors.GripperError` if the device is lost or reports a fault.
    """

    def width_m(self) -> float:
        """Return the distance between the fingers [m]."""

    def start(self, width_m: float, *, speed_m_s: float, force_n: float) -> None:
        """Begin to move the fingers to a distance; an object between them ends the movement.

        Args:
            width_m: Distance between the fingers [m]; 0 closes.
            speed_m_s: Speed of the fingers [m/s].
            force_n: Force on an object [N].
        """

    def is_done(self) -> bool:
        """Return whether the movement has ended."""

    def close(self) -> None:
        """Release the device."""


@dataclass(frozen=True)
class Movement:
    """A movement in progress, as franky's futures: `wait` and `get`."""

    gripper: Gripper

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the movement; return whether it has come."""
        until = time.monotonic() + timeout_s
        while not self.gripper.is_done():
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True

    def get(self) -> bool:
        """Return that the movement has ended; faults are raised by the gripper's own methods."""
        return True


class HandOf:
    """A gripper with the methods of `franky.Gripper` that the driver calls."""

    def __init__(self, gripper: Gripper) -> None:
        self.gripper = gripper

    @property
    def width(self) -> float:
        """Distance between the fingers [m]."""
        return self.gripper.width_m()

    def grasp_async(self, width: float, speed: float, force: float, **_: float) -> Movement:
        """Close the fingers on an object."""
        self.gripper.start(width, speed_m_s=speed, force_n=force)
        return Movement(self.gripper)

    def move_async(self, width: float, speed: float) -> Movement:
        """Move the fingers to a distance, with the smallest force."""
        self.gripper.start(width, speed_m_s=speed, force_n=0.0)
        return Movement(self.gripper)

    def close(self) -> None:
        """Release the device."""
        self.gripper.close()
