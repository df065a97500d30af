"""A deterministic arm without physics, with faults on order: for tests and dry rehearsals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import ArmSpec, ArmState, Sent
from robot.constants import MAX_WIDTH_M, PERIOD_S
from robot.errors import ArmError, ConfigError, ReflexError
from robot.kinematics import Kinematics, flange_pose
from robot.pose import apply_action, is_closed_after, matrix_to_euler

Array = NDArray[np.float64]

READY_Q = (0.0, -0.1, 0.0, -2.3, 0.0, 2.2, 0.785)
FAULTS = ("reflex", "disconnect", "stale_state", "nan_state", "short", "late")


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at a step and after.

    reflex: the arm stops with an error until `recover`. disconnect: every call fails.
    stale_state: readings stop. nan_state: readings are not numbers. short: the arm moves only
    `amount` of each step. late: readings are `amount` seconds old.
    """

    kind: str
    step: int = 0
    amount: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ConfigError(f"Unknown fault {self.kind!r}; known: {', '.join(FAULTS)}")


@dataclass
class FakeArm:
    """Takes every reachable pose at once; a step lasts `step_s` of its own clock."""

    q: Array = field(default_factory=lambda: np.array(READY_Q))
    """Joint positions [7, rad]."""
    step_s: float = PERIOD_S
    faults: tuple[Fault, ...] = ()
    object_width_m: float = 0.0
    """Width of what is between the fingers when they close; 0: nothing."""

    def __post_init__(self) -> None:
        self.solver = Kinematics("fr3", margin_rad=0.0)
        self.steps, self.time_s = 0, 0.0
        self.closed = self.stopped = False
        self.recovered_at = -1
        self._last: ArmState | None = None

    @property
    def spec(self) -> ArmSpec:
        """Conventions of the arm's states and actions."""
        return ArmSpec(period_s=self.step_s)

    def _has(self, kind: str) -> Fault | None:
        for fault in self.faults:
            if fault.kind == kind and self.recovered_at < fault.step <= self.steps:
                return fault
        return None

    def state(self) -> ArmState:
        """Read the arm.

        Raises:
            ArmError: the connection is lost (an ordered fault).
        """
        if self._has("disconnect"):
            raise ArmError("The fake arm's connection is lost (ordered fault): reconnect")
        if self._has("stale_state") and self._last is not None:
            return self._last
        pose = flange_pose(self.q)
        width = max(
            self.object_width_m if self.closed else 0.0, 0.0 if self.closed else MAX_WIDTH_M
        )
        closed = 1.0 - width / MAX_WIDTH_M
        state = np.concatenate([pose[:3, 3], matrix_to_euler(pose[:3, :3]), [closed]])
        late = self._has("late")
        self._last = ArmState(
            time_s=self.time_s,
            state=np.full(7, np.nan) if self._has("nan_state") else state,
            q=self.q.copy(),
            dq=np.zeros(7),
            gripper_width_m=width,
            holding=self.closed and self.object_width_m > 0.005,
            errors=("reflex",) if self._has("reflex") else (),
            age_s=late.amount if late else 0.0,
        )
        return self._last

    def send(self, action: ArrayLike) -> Sent:
        """Move by a DROID delta [7]."""
        asked = np.asarray(action, dtype=np.float64)
        grip = float(asked[6])
        target = apply_action(self.state().state, np.append(asked[:6], 0.0))
        target[6] = float(is_closed_after(grip, self.closed))
        return self.send_pose(target)

    def send_pose(self, target: ArrayLike) -> Sent:
        """Take a pose [7]; closedness over a half closes.

        Raises:
            ArmError: the arm is in an error (an ordered fault).
            UnreachableError: no joint positions for it.
        """
        self.steps += 1
        if self._has("disconnect"):
            raise ArmError("The fake arm's connection is lost (ordered fault): reconnect")
        if self._has("reflex"):
            raise ReflexError("The fake arm had a reflex (ordered fault): look, then recover")
        wanted = np.asarray(target, dtype=np.float64)
        now = self.state().state
        joints = self.solver.solve(wanted, self.q)
        short = self._has("short")
        self.q = self.q + (joints - self.q) * (short.amount if short else 1.0)
        self.closed, self.stopped = bool(wanted[6] > 0.5), False
        self.time_s += self.step_s
        return Sent(action=np.append(wanted[:6] - now[:6], wanted[6]), target=wanted)

    def stop(self) -> None:
        """Stay."""
        self.stopped = True

    def recover(self) -> None:
        """Faults ordered up to now are over."""
        self.recovered_at = self.steps

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
