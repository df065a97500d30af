"""Shared memory of the planner process, the arm's driver and the watchdog.

The driver writes readings of the arm, the planner its heartbeat and the time of its newest frame,
and any process that detects a fault sets the stop flag. It uses no locks, so that a hung writer
cannot block a reader.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.arm import ArmState

Array = NDArray[np.float64]

_SEQUENCE, _CLOCK, _STAMP = 0, 1, 2
_STATE, _Q, _DQ, _WIDTH, _HOLDING, _MOVING = 3, 10, 17, 24, 25, 26
_BEAT, _FRAME, _STOP, _STOPPED_AT, _GUARD = 30, 31, 32, 33, 34
_TEXT = 400


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reading of the arm by its driver."""

    clock_s: float
    """The arm's own clock [s]."""
    state: Array
    """Flange pose and closedness [7]."""
    q: Array
    """Joint positions [7, rad]."""
    dq: Array
    """Joint velocities [7, rad/s]."""
    width_m: float
    """Distance between the fingers [m]."""
    holding: bool
    """Whether an object is between the fingers."""
    moving: bool
    """Whether a motion is in progress."""


class SharedArmState:
    """Lock-free shared memory; pass it to the processes that need it.

    Args:
        context: Multiprocessing context of those processes.
    """

    def __init__(self, context: SpawnContext) -> None:
        self._numbers: Any = context.RawArray("d", 40)
        self._reason: Any = context.RawArray("c", _TEXT)
        self._errors: Any = context.RawArray("c", _TEXT)

    def write(self, reading: Reading, errors: str = "") -> None:
        """Publish a reading (driver only); its age restarts when the arm's clock has advanced."""
        n = self._numbers
        n[_SEQUENCE] += 1  # odd: being written
        if reading.clock_s != n[_CLOCK]:
            n[_STAMP] = time.monotonic()
        n[_CLOCK] = reading.clock_s
        n[_STATE : _STATE + 7], n[_Q : _Q + 7] = list(reading.state), list(reading.q)
        n[_DQ : _DQ + 7], n[_WIDTH] = list(reading.dq), reading.width_m
        n[_HOLDING], n[_MOVING] = float(reading.holding), float(reading.moving)
        self._errors.value = errors.encode()[: _TEXT - 1]
        n[_SEQUENCE] += 1

    def read(self) -> ArmState:
        """Return the newest reading of the arm."""
        for _ in range(1000):
            before = self._numbers[_SEQUENCE]
            n = np.array(self._numbers[:])
            if before == self._numbers[_SEQUENCE] and before % 2 == 0:
                break
        text = self._errors.value.decode(errors="replace")
        return ArmState(
            time_s=float(n[_CLOCK]),
            state=n[_STATE : _STATE + 7],
            q=n[_Q : _Q + 7],
            dq=n[_DQ : _DQ + 7],
            gripper_width_m=float(n[_WIDTH]),
            holding=bool(n[_HOLDING]),
            errors=(text,) if text else (),
            age_s=max(0.0, time.monotonic() - float(n[_STAMP])),
        )

    @property
    def moving(self) -> bool:
        """Whether the driver is executing a motion."""
        return bool(self._numbers[_MOVING])

    @property
    def state_age_s(self) -> float:
        """Time since the arm's clock last advanced [s]."""
        return time.monotonic() - float(self._numbers[_STAMP])

    def beat(self) -> None:
        """Record a heartbeat (planner only)."""
        self._numbers[_BEAT] = time.monotonic()

    @property
    def beat_age_s(self) -> float:
        """Time since the planner's last heartbeat [s]."""
        return time.monotonic() - float(self._numbers[_BEAT])

    def guard(self) -> None:
        """Record a watchdog check (watchdog only)."""
        self._numbers[_GUARD] = time.monotonic()

    @property
    def guard_age_s(self) -> float:
        """Time since the watchdog's last check [s]."""
        return time.monotonic() - float(self._numbers[_GUARD])

    def saw_frame(self, taken_s: float) -> None:
        """Record the monotonic capture time of a good camera frame [s]."""
        self._numbers[_FRAME] = taken_s

    @property
    def frame_age_s(self) -> float:
        """Age of the newest good frame [s]; 0 while no camera is watched."""
        taken = float(self._numbers[_FRAME])
        return time.monotonic() - taken if taken else 0.0

    def stop(self, reason: str) -> None:
        """Set the stop flag, which the driver obeys; the first reason is kept until `clear`."""
        if not self._numbers[_STOP]:
            self._reason.value = reason.encode()[: _TEXT - 1]
            self._numbers[_STOPPED_AT] = time.monotonic()
            self._numbers[_STOP] = 1.0

    @property
    def stopped(self) -> str:
        """Reason of the stop; empty if there is none."""
        return str(self._reason.value.decode(errors="replace")) if self._numbers[_STOP] else ""

    @property
    def stopped_for_s(self) -> float:
        """Time since the stop was ordered [s]."""
        return time.monotonic() - float(self._numbers[_STOPPED_AT]) if self._numbers[_STOP] else 0.0

    def clear(self) -> None:
        """Lift the stop; call it only after a person has inspected the arm."""
        self._numbers[_STOP], self._numbers[_FRAME] = 0.0, 0.0
        self._reason.value = b""
