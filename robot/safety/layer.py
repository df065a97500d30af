"""The safety layer between a planner and any arm.

Every command is checked by `robot.safety.limits`, then sent as an absolute pose, clipped, or
refused, and logged with its reasons.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import Arm, ArmSpec, ArmState, Closing, Reason, Sent
from robot.errors import UnreachableError
from robot.pose import turn_between, turn_by
from robot.safety.config import SafetyConfig
from robot.safety.limits import Limits, Solver, outside_m, target_outside_m, tips_m

Array = NDArray[np.float64]

__all__ = ["Limits", "SafeArm", "SafetyConfig", "outside_m", "target_outside_m", "tips_m"]


@dataclass
class _Command:
    """A command being processed by the layer."""

    number: int
    kind: str
    asked: ArrayLike
    closed: bool
    state: ArmState | None = None
    base: Array | None = None
    allowed: Array | None = None
    """Target that the limits allow, before the operator's or the arm's own decision."""

    def row(self, sent: Sent) -> dict[str, Any]:
        """Return the log entry; its numbers are exact, so that `Limits.judge` can be replayed."""
        state = self.state
        return {
            "n": self.number,
            "time_s": time.time(),
            "kind": self.kind,
            "asked": _short(self.asked),
            "closed": self.closed,
            "base": _exact(self.base),
            "q": None if state is None else _exact(state.q),
            "state": None if state is None else _exact(state.state),
            "allowed": _exact(self.allowed),
            "sent": _exact(sent.action),
            "target": _exact(sent.target),
            "refused": sent.refused,
            "reasons": [str(reason) for reason in sent.reasons],
            "reason_kinds": [reason.kind for reason in sent.reasons],
        }


class SafeArm(Closing):
    """An `Arm` that enforces the safety limits on another arm.

    Args:
        arm: The arm to protect; it receives absolute poses only.
        config: The limits.
        solver: Inverse kinematics that checks reach and joint margin; None leaves that to the arm.
        execute: Whether commands are sent; False is a dry run that only checks and logs.
        log: File for one JSON line per command: time, request, base, sent, target, reasons. A
            command that the arm itself changes or refuses gets a second line with the same `n`.
        confirm: Called before each step; the step is refused if it returns False.
    """

    def __init__(
        self,
        arm: Arm,
        config: SafetyConfig,
        *,
        solver: Solver | None = None,
        execute: bool = False,
        log: IO[str] | None = None,
        confirm: Callable[[Sent], bool] | None = None,
    ) -> None:
        self.arm, self.config, self.execute, self.confirm = arm, config, execute, confirm
        self.limits, self.log = Limits(config, solver), log
        self.tripped = ""
        self.counts: dict[str, int] = {}
        self.commands = 0
        self.begin()

    @property
    def spec(self) -> ArmSpec:
        """State and action conventions of the protected arm."""
        return self.arm.spec

    def begin(self) -> None:
        """Reset the reference pose, from which the next action counts, to the current pose.

        If the arm's state is not finite, every command is refused until the next `begin`.
        """
        state = self.arm.state()
        self.closed = bool(state.holding) or not bool(state.state[6] <= 0.1)
        self.commanded = np.append(state.state[:6], float(self.closed))

    def state(self) -> ArmState:
        """Read the arm."""
        return self.arm.state()

    def _base(self, state: ArmState) -> Array:
        """Return the pose [7] that the step counts from: the last target, near the measured pose.

        A position that lags is replaced by the measured one. Of the orientation, only what exceeds
        `max_lag_rad` is taken back: replacing it would make a tilt forced by a contact persist.
        """
        base, measured = self.commanded.copy(), state.state
        if not np.linalg.norm(base[:3] - measured[:3]) <= self.config.max_lag_m:
            base[:3] = measured[:3]
        lag = turn_between(measured[3:6], base[3:6])
        angle, most = float(np.linalg.norm(lag)), self.config.max_lag_rad
        if not angle <= most:
            base[3:6] = turn_by(measured[3:6], lag * (most / max(angle, 1e-9)))
        return base

    def send(self, action: ArrayLike) -> Sent:
        """Check a DROID delta [7], then move; gripper above 0.15 closes, below -0.15 opens."""
        return self._go("action", action)

    def send_pose(self, target: ArrayLike) -> Sent:
        """Check an absolute flange pose [7], then move toward it by one step at most."""
        return self._go("pose", target)

    def _go(self, kind: str, asked: ArrayLike) -> Sent:
        command = _Command(self.commands, kind, asked, self.closed)
        self.commands += 1
        numbers = _numbers(asked)
        if numbers is None:
            text = f"{_short(asked)} is not seven finite numbers"
            return self._refuse(command, [Reason("numbers", text)])
        state = self.arm.state()
        blocked = self._blocked(state)
        if blocked is not None:
            return self._refuse(command, [blocked])
        command.state, command.base = state, self._base(state)
        sent = self.limits.judge(kind, numbers, command.base, self.closed, state.q)
        if sent.refused:
            return self._refuse(command, list(sent.reasons))
        command.allowed = sent.target
        if self.confirm is not None and not self.confirm(sent):
            return self._refuse(command, [*sent.reasons, Reason("person", "not confirmed")])
        if not self.execute:
            return self._refuse(command, [*sent.reasons, Reason("dry run")], sent)
        return self._carry_out(command, sent)

    def _carry_out(self, command: _Command, sent: Sent) -> Sent:
        self._write(command, sent)
        before = self.commanded, self.closed
        self.commanded, self.closed = sent.target.copy(), bool(sent.target[6] > 0.5)
        try:
            done = self.arm.send_pose(sent.target)
        except UnreachableError as error:  # raised by the arm's own solver; nothing was sent
            self.commanded, self.closed = before
            return self._refuse(command, [*sent.reasons, Reason("reach", str(error))])
        if done.reasons:
            reasons = (*sent.reasons, *done.reasons)
            sent = replace(sent, target=done.target, reasons=reasons, ended=done.ended)
            self.commanded = (done.target if done.ended is None else done.ended).copy()
            self._write(command, sent)
        return sent

    def _blocked(self, state: ArmState) -> Reason | None:
        if self.tripped:
            return Reason("latched", self.tripped)
        if state.errors:
            return Reason("arm", ", ".join(state.errors))
        scalars = [state.time_s, state.gripper_width_m]
        numbers = np.concatenate([state.state, state.q, state.dq, scalars])
        if not np.isfinite(numbers).all():
            return Reason("state", "not finite")
        if not np.isfinite(self.commanded).all():
            return Reason("state", "the reference pose is not finite; recover the arm")
        if not 0 <= state.age_s <= self.config.max_state_age_s:
            text = f"{state.age_s:.2f} s old, at most {self.config.max_state_age_s}"
            return Reason("state", text)
        return None

    def _refuse(self, command: _Command, reasons: list[Reason], would: Sent | None = None) -> Sent:
        sent = Sent(
            action=np.zeros(7) if would is None else would.action,
            target=self.commanded.copy() if would is None else would.target,
            reasons=tuple(reasons),
            refused=True,
        )
        self._write(command, sent)
        return sent

    def _write(self, command: _Command, sent: Sent) -> None:
        kinds: set[str] = {reason.kind for reason in sent.reasons}
        for kind in kinds or {"as asked"}:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.log is not None:
            self.log.write(json.dumps(command.row(sent)) + "\n")
            self.log.flush()

    def trip(self, reason: str) -> None:
        """Stop the arm and refuse all commands until `recover`."""
        self.tripped = self.tripped or reason or "stopped without a reason"
        self.arm.stop()

    def stop(self) -> None:
        """Stop immediately and hold the position."""
        self.arm.stop()
        self.begin()

    def recover(self) -> None:
        """Clear errors and the latch; call it only after a person has inspected the arm."""
        self.arm.recover()
        self.tripped = ""
        self.begin()

    def close(self) -> None:
        """Release the arm."""
        self.arm.close()


def _numbers(values: ArrayLike) -> Array | None:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (7,) and bool(np.isfinite(array).all()) else None


def _exact(values: Array | None) -> list[float] | None:
    return None if values is None else [float(v) for v in values]


def _short(values: ArrayLike) -> list[float | str] | str:
    try:
        flat = np.asarray(values, dtype=np.float64).ravel()[:8]
    except (TypeError, ValueError):
        return repr(values)[:80]
    return [float(v) if np.isfinite(v) else str(v) for v in flat]
