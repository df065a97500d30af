"""A deterministic arm without physics that can simulate faults, for tests and rehearsals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import ArmSpec, ArmState, Closing, Sent
from robot.constants import MAX_WIDTH_M, PERIOD_S
from robot.errors import ArmError, ReflexError
from robot.kinematics import Kinematics, flange_pose
from robot.pose import matrix_to_euler, pose_after
from robot.ranges import between, check_ranges

Array = NDArray[np.float64]

READY_Q = (0.0, -0.1, 0.0, -2.3, 0.0, 2.2, 0.785)
FaultKind = Literal["reflex", "disconnect", "stale_state", "nan_state", "short", "late"]


@dataclass(frozen=True)
class Fault:
    """A simulated fault that begins at a given step.

    | kind | effect |
    |---|---|
    | reflex | the arm stops with an error until `recover` |
    | disconnect | every call fails |
    | stale_state | readings stop |
    | nan_state | readings are not numbers |
    | short | the arm moves only `amount` of each step |
    | late | readings are `amount` seconds old |

    Raises:
        ConfigError: An unknown kind, or a number out of its range.
    """

    kind: FaultKind
    step: int = field(default=0, metadata=between(0, 1_000_000))
    """Step at which the fault begins."""
    amount: float = field(default=0.5, metadata=between(0, 3600))
    """Fraction of each step (short), or delay [s] (late)."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class FakeArm(Closing):
    """An arm that reaches every reachable pose at once and advances its clock by `step_s`."""

    q: Array = field(default_factory=lambda: np.array(READY_Q))
    """Joint positions [7, rad]."""
    step_s: float = PERIOD_S
    """Control period [s]."""
    faults: tuple[Fault, ...] = ()
    object_width_m: float = 0.0
    """Width of the object that the fingers close on [m]; 0 for none."""

    def __post_init__(self) -> None:
        self.solver = Kinematics("fr3", margin_rad=0.0)
        self.steps, self.time_s = 0, 0.0
        self.closed = self.stopped = False
        self.recovered_at = -1
        self._last: ArmState | None = None

    @property
    def spec(self) -> ArmSpec:
        """State and action conventions of the arm."""
        return ArmSpec(period_s=self.step_s)

    def _has(self, kind: FaultKind) -> Fault | None:
        for fault in self.faults:
            if fault.kind == kind and self.recovered_at < fault.step <= self.steps:
                return fault
        return None

    def state(self) -> ArmState:
        """Read the arm.

        Raises:
            ArmError: The connection is lost (a simulated fault).
        """
        if self._has("disconnect"):
            raise ArmError("The fake arm's connection is lost (simulated fault): reconnect")
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
        return self.send_pose(pose_after(self.state().state, action, self.closed))

    def send_pose(self, target: ArrayLike) -> Sent:
        """Reach a pose [7]; closedness above 0.5 closes the gripper.

        Raises:
            ReflexError: The arm had a reflex (a simulated fault).
            ArmError: The connection is lost (a simulated fault).
            UnreachableError: No joint positions reach the pose.
        """
        self.steps += 1
        if self._has("disconnect"):
            raise ArmError("The fake arm's connection is lost (simulated fault): reconnect")
        if self._has("reflex"):
            raise ReflexError(
                "The fake arm had a reflex (simulated fault): inspect it, then recover"
            )
        wanted = np.asarray(target, dtype=np.float64)
        now = self.state().state
        joints = self.solver.solve(wanted, self.q)
        short = self._has("short")
        self.q = self.q + (joints - self.q) * (short.amount if short else 1.0)
        self.closed, self.stopped = bool(wanted[6] > 0.5), False
        self.time_s += self.step_s
        return Sent(action=np.append(wanted[:6] - now[:6], wanted[6]), target=wanted)

    def stop(self) -> None:
        """Hold the position."""
        self.stopped = True

    def recover(self) -> None:
        """Clear all faults that have begun."""
        self.recovered_at = self.steps
