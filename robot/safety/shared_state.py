"""Shared memory of the planner process, the arm's driver and the watchdog.

The driver writes readings of the arm, the planner its heartbeat and the time of its newest frame,
and any process that detects a fault sets the stop flag. It uses no locks, so that a hung writer
cannot block a reader.

The stop flag is a time: the arm is stopped while the newest stop is later than the last one that
was cleared. Clearing names the stop that a person has seen, so a stop that arrives meanwhile stays.
The reason is a text beside the flag, and decides nothing.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot.arm import ArmState

Array = NDArray[np.float64]

_SEQUENCE, _CLOCK, _STAMP = 0, 1, 2
_STATE, _Q, _DQ, _WIDTH, _HOLDING, _MOVING = 3, 10, 17, 24, 25, 26
_BEAT, _FRAME, _STOP, _STOPPED_AT, _GUARD, _CLEARED, _GUARDS, _ELAPSED = range(30, 38)
_TEXT = 400
NO_REASON = "stopped without a reason"
FUTURE_S = 0.05
"""Ages below the negative of this come from a wrong clock [s]."""

Clock = Literal["host", "arm"]
"""Clock of the ages: the host's, or that of a simulated arm, whose time waits for its driver."""


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
        clock: Clock of the ages of heartbeats and frames, and of the time since a stop.
    """

    def __init__(self, context: SpawnContext, clock: Clock = "host") -> None:
        self.clock: Clock = clock
        self._numbers: Any = context.RawArray("d", 40)
        self._reason: Any = context.RawArray("c", _TEXT)
        self._later: Any = context.RawArray("c", _TEXT)
        self._errors: Any = context.RawArray("c", _TEXT)

    def write(self, reading: Reading, errors: str = "") -> None:
        """Publish a reading (driver only); its age restarts when the arm's clock has changed."""
        n = self._numbers
        n[_SEQUENCE] += 1  # odd: being written
        if reading.clock_s != n[_CLOCK] and math.isfinite(reading.clock_s):
            # the arm's clock may restart on a new connection; ages must not become negative
            n[_ELAPSED] += max(0.0, reading.clock_s - n[_CLOCK])
            n[_STAMP], n[_CLOCK] = time.monotonic(), reading.clock_s
        n[_STATE : _STATE + 7], n[_Q : _Q + 7] = list(reading.state), list(reading.q)
        n[_DQ : _DQ + 7], n[_WIDTH] = list(reading.dq), reading.width_m
        n[_HOLDING], n[_MOVING] = float(reading.holding), float(reading.moving)
        self._errors.value = _encode(errors)
        n[_SEQUENCE] += 1

    def rest(self, errors: str) -> None:
        """Publish that no motion is in progress, with errors but no reading (driver only)."""
        self._numbers[_MOVING] = 0.0
        self._errors.value = _encode(errors)

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
            age_s=time.monotonic() - float(n[_STAMP]),
        )

    @property
    def moving(self) -> bool:
        """Whether the driver is executing a motion."""
        return bool(self._numbers[_MOVING])

    @property
    def now_s(self) -> float:
        """Time by the clock of the ages [s]."""
        return time.monotonic() if self.clock == "host" else float(self._numbers[_ELAPSED])

    def _age_s(self, index: int) -> float:
        stamp = float(self._numbers[index])  # before the clock, so that no age is negative
        return self.now_s - stamp

    @property
    def state_age_s(self) -> float:
        """Time since the arm's clock last changed, always by the host's clock [s]."""
        stamp = float(self._numbers[_STAMP])
        return time.monotonic() - stamp

    def beat(self) -> None:
        """Record a heartbeat (planner only)."""
        self._numbers[_BEAT] = self.now_s

    @property
    def beat_age_s(self) -> float:
        """Time since the planner's last heartbeat [s]."""
        return self._age_s(_BEAT)

    def guard(self) -> None:
        """Record a watchdog check (watchdog only)."""
        self._numbers[_GUARD] = self.now_s
        self._numbers[_GUARDS] += 1

    @property
    def guards(self) -> int:
        """Number of the watchdog's checks."""
        return int(self._numbers[_GUARDS])

    @property
    def guard_age_s(self) -> float:
        """Time since the watchdog's last check [s]."""
        return self._age_s(_GUARD)

    def saw_frame(self, taken_s: float) -> None:
        """Record the monotonic capture time of a good camera frame [s]."""
        self._numbers[_FRAME] = taken_s if self.clock == "host" else self.now_s

    @property
    def frame_age_s(self) -> float:
        """Age of the newest good frame [s]; 0 while no camera is watched."""
        return self._age_s(_FRAME) if self._numbers[_FRAME] else 0.0

    def stop(self, reason: str) -> None:
        """Set the stop flag, which the driver obeys; the first reason is kept until `clear`."""
        first = not self.is_stopped
        if first:
            self._numbers[_STOPPED_AT] = time.monotonic()
        self._numbers[_STOP] = time.monotonic()
        while not self.is_stopped:  # a later stop was cleared before this one was written
            self._numbers[_STOP] = time.monotonic()
        text = self._reason if first or not self._reason.value else self._later
        text.value = _encode(reason)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop is in force."""
        return not self._numbers[_STOP] <= self._numbers[_CLEARED]

    @property
    def stopped(self) -> str:
        """Reason of the stop; empty if there is none."""
        if not self.is_stopped:
            return ""
        return str(self._reason.value.decode(errors="replace")) or NO_REASON

    @property
    def newest_stop(self) -> float:
        """Identity of the newest stop, for `clear`."""
        return float(self._numbers[_STOP])

    @property
    def stopped_for_s(self) -> float:
        """Time since the stop was ordered, by the host's clock [s]."""
        stamp = float(self._numbers[_STOPPED_AT])
        return time.monotonic() - stamp if self.is_stopped else 0.0

    def clear(self, seen: float | None = None) -> None:
        """Lift the stop; call it only after a person has inspected the arm.

        Args:
            seen: `newest_stop` when the arm was inspected; a later stop stays in force. None lifts
                the newest one.
        """
        cleared = self.newest_stop if seen is None else seen
        # before the flag, so that a stop that arrives now keeps its reason
        self._reason.value = self._later.value if not self.newest_stop <= cleared else b""
        self._later.value = b""
        self._numbers[_FRAME] = 0.0
        self._numbers[_CLEARED] = max(cleared, float(self._numbers[_CLEARED]))


def _encode(text: str) -> bytes:
    """Return a text as shared memory holds it: no zero byte, no invalid character, not too long."""
    return str(text).replace("\0", " ").strip().encode(errors="replace")[: _TEXT - 1]
