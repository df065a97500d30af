"""The layer between a planner and any arm: what may be asked of it, and what was made of it.

Every action is checked, then carried out as an absolute pose, clipped, or refused; each one is
logged with the reason. The layer keeps the box on the flange and on both fingertips; boxes are
convex and a step is nearly straight, so the way between two poses inside stays inside as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import IO, Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import Arm, ArmState, Sent
from robot.errors import ConfigError, UnreachableError
from robot.pose import apply_action, euler_to_matrix, flange_to_tcp, pose_diff

Array = NDArray[np.float64]

TIP_OFFSETS_M = np.array([[x, y, 0.0095] for x in (-0.011, 0.011) for y in (-0.05, 0.05)])
"""Outer corners of the open fingers' ends in the TCP's frame [4, 3]; the fingers open along y."""


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Limits of one workplace. Lengths in metres in the robot's base frame, angles in radians."""

    flange_low_m: tuple[float, ...] = (0.28, -0.32, 0.10)
    flange_high_m: tuple[float, ...] = (0.70, 0.32, 0.55)
    tip_low_m: tuple[float, ...] = (0.25, -0.38, 0.0)
    tip_high_m: tuple[float, ...] = (0.75, 0.38, 0.50)
    table_z_m: float = 0.0
    """Height of the table; the fingertips stay `clearance_m` above it."""
    clearance_m: float = 0.001
    max_step_m: float = 0.075
    """On each axis; a longer step is shortened in its own direction."""
    max_step_rad: float = 0.15
    max_speed_m_s: float = 0.1
    """The driver's cap; with `step_s` also that of a step under preemption."""
    max_turn_rad_s: float = 0.5
    step_s: float | None = None
    """Control period of a driver that does not wait for a step's end; None: it waits."""
    joint_margin_rad: float = 0.1
    max_joint_step_rad: float = 0.6
    """A step that needs more of any joint is near a singularity and refused."""
    max_state_age_s: float = 0.2
    gripper_force_n: float = 20.0
    """At most 30."""
    max_torque_nm: float = 20.0
    """Collision threshold of every joint; at most 20."""
    max_force_n: float = 20.0
    """Collision threshold of the hand; at most 20."""
    max_lag_m: float = 0.012
    """Actions add up on the last target unless the flange is further than this from it."""
    on_violation: str = "clip"
    """clip: shorten to what is allowed. reject: send nothing."""

    def __post_init__(self) -> None:
        for name in ("flange_low_m", "flange_high_m", "tip_low_m", "tip_high_m"):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != 3 or not np.isfinite(value).all():
                raise ConfigError(f"{name} is {value}; wanted three finite numbers [m]")
            object.__setattr__(self, name, value)
        for part in ("flange", "tip"):
            low, high = getattr(self, f"{part}_low_m"), getattr(self, f"{part}_high_m")
            if any(a >= b for a, b in zip(low, high, strict=True)):
                raise ConfigError(f"{part} box is empty: low {low}, high {high} [m]")
        caps = {
            "max_step_m": 0.2, "max_step_rad": 0.5, "max_speed_m_s": 1.0, "max_turn_rad_s": 2.0,
            "gripper_force_n": 30.0, "max_torque_nm": 20.0, "max_force_n": 20.0,
            "max_joint_step_rad": 2.0, "max_state_age_s": 2.0,
        }  # fmt: skip
        for name, cap in caps.items():
            if not 0 < getattr(self, name) <= cap:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; allowed: above 0, at most {cap}"
                )
        if self.on_violation not in ("clip", "reject"):
            raise ConfigError(f"on_violation is {self.on_violation!r}; allowed: clip, reject")

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """Build from a mapping, as read from a configuration file.

        Raises:
            ConfigError: an unknown name or a forbidden value.
        """
        known = {f.name for f in fields(cls)}
        wrong = sorted(set(values) - known)
        if wrong:
            raise ConfigError(f"Unknown limits {wrong}; known: {', '.join(sorted(known))}")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**given)

    @property
    def step_m(self) -> float:
        """Longest step on an axis, speed included [m]."""
        if self.step_s is None:
            return self.max_step_m
        return min(self.max_step_m, self.max_speed_m_s * self.step_s)


class Solver(Protocol):
    """Inverse kinematics: raises an UnreachableError where there is no solution."""

    def solve(self, target: ArrayLike, q: ArrayLike) -> Array:
        """Joint positions [7] for a flange pose [>=6], near q [7]."""
        ...


def tips_m(state: ArrayLike) -> Array:
    """Outer corners of the open fingers' ends [4, 3, m] for a flange state [7]."""
    tcp = flange_to_tcp(state)
    return np.asarray(tcp[:3] + TIP_OFFSETS_M @ euler_to_matrix(tcp[3:6]).T)


def outside_m(config: SafetyConfig, state: ArrayLike) -> Array:
    """How to move a flange state [7] so that flange and fingertips are in their boxes [3, m]."""
    pose = np.asarray(state, dtype=np.float64)
    tips = tips_m(pose)
    tip_low = np.array(config.tip_low_m)
    tip_low[2] = max(tip_low[2], config.table_z_m + config.clearance_m)
    below = np.maximum(np.array(config.flange_low_m) - pose[:3], tip_low - tips.min(axis=0))
    above = np.maximum(
        pose[:3] - np.array(config.flange_high_m), tips.max(axis=0) - np.array(config.tip_high_m)
    )
    return np.maximum(below, 0.0) - np.maximum(above, 0.0)


TINY_M = 1e-9


class Limits:
    """Turns a wanted pose into an allowed one; pure arithmetic, no arm."""

    def __init__(self, config: SafetyConfig, solver: Solver | None = None) -> None:
        self.config, self.solver = config, solver

    def allow(self, base: Array, wanted: Array, q: Array) -> tuple[Array | None, list[str]]:
        """Allowed pose on the way from `base` to `wanted`, with the reasons for each change.

        Args:
            base: flange state [7] that the step counts from.
            wanted: flange state [7] asked for.
            q: joint positions [7] now.

        Returns:
            (pose, reasons); None for a pose that cannot be mended.
        """
        reasons: list[str] = []
        target = self._cap(base, wanted, reasons)
        shift = outside_m(self.config, target)
        if np.abs(shift).max() > TINY_M:
            reasons.append("box: " + _axes(shift))
            target = self._into_box(base, target, shift, reasons)
        if reasons and self.config.on_violation == "reject":
            return None, reasons
        still = float(np.abs(outside_m(self.config, target)).max())
        if still > TINY_M and still >= float(np.abs(outside_m(self.config, base)).max()):
            return None, [*reasons, f"box: {still * 1000:.0f} mm outside and not coming back"]
        return self._reachable(target, q, reasons)

    def _cap(self, base: Array, wanted: Array, reasons: list[str]) -> Array:
        step = pose_diff(base, wanted)
        cap, turn_cap = self.config.step_m, self.config.max_step_rad
        longest, turn = np.abs(step[:3]).max(), np.abs(step[3:6]).max()
        if longest > cap * (1 + 1e-9):
            reasons.append(f"step: {longest:.3f} m, at most {cap:.3f}")
            step[:3] *= cap / longest
        if turn > turn_cap * (1 + 1e-9):
            reasons.append(f"rotation: {turn:.3f} rad, at most {turn_cap:.3f}")
            step[3:6] *= turn_cap / turn
        return apply_action(base, np.append(step[:6], wanted[6] - base[6]))

    def _into_box(self, base: Array, target: Array, shift: Array, reasons: list[str]) -> Array:
        moved = target.copy()
        moved[:3] += shift
        if np.abs(moved[:3] - base[:3]).max() <= self.config.step_m * (1 + 1e-9):
            return moved
        reasons.append("rotation: left out, it would push the fingers out of the box")
        moved = np.concatenate([target[:3], base[3:6], target[6:]])
        moved[:3] += outside_m(self.config, moved)
        step = moved[:3] - base[:3]
        moved[:3] = base[:3] + step * min(1.0, self.config.step_m / max(np.abs(step).max(), TINY_M))
        return moved

    def _reachable(
        self, target: Array, q: Array, reasons: list[str]
    ) -> tuple[Array | None, list[str]]:
        if self.solver is None:
            return target, reasons
        try:
            joints = self.solver.solve(target, q)
        except UnreachableError as error:
            return None, [*reasons, f"reach: {error}"]
        most = float(np.abs(joints - q).max())
        if most > self.config.max_joint_step_rad:
            text = f"joints: {most:.2f} rad in one step, at most {self.config.max_joint_step_rad}"
            return None, [*reasons, text]
        return target, reasons


def _axes(shift: Array) -> str:
    parts = [f"{n} {v * 1000:+.0f} mm" for n, v in zip("xyz", shift, strict=True) if v]
    return ", ".join(parts)


class SafeArm:
    """An arm behind the safety layer; itself an `Arm`.

    Args:
        arm: any arm; only absolute poses are sent to it.
        config: the limits.
        solver: inverse kinematics for reach and joint margin; None leaves them to the arm.
        execute: False is a dry run: everything is checked and logged, nothing is sent.
        log: JSONL of every action: time, asked, sent, target, reasons.
        confirm: asked before each step (`confirm_each`); False refuses the step.
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
        self.begin()

    def begin(self) -> None:
        """Take the arm as it stands as the pose that the next action counts from."""
        state = self.arm.state()
        self.closed = bool(state.holding) or bool(state.state[6] > 0.1)
        self.commanded = np.append(state.state[:6], float(self.closed))

    def state(self) -> ArmState:
        """Read the arm."""
        return self.arm.state()

    def _base(self, state: ArmState) -> Array:
        if np.linalg.norm(self.commanded[:3] - state.state[:3]) <= self.config.max_lag_m:
            return self.commanded.copy()
        # only the place: taking over a tilt that a contact forced would keep it for good
        return np.concatenate([state.state[:3], self.commanded[3:]])

    def send(self, action: ArrayLike) -> Sent:
        """Check, then move by a DROID delta [7]; gripper over 0.15 closes, under -0.15 opens."""
        asked = _numbers(action)
        if asked is None:
            return self._refuse(action, [f"numbers: {_short(action)} is not seven finite numbers"])
        grip = float(asked[6])
        close = self.closed if abs(grip) <= 0.15 else grip > 0

        def wanted(base: Array) -> Array:
            moved = apply_action(base, np.append(np.clip(asked[:6], -10, 10), 0.0))
            return np.append(moved[:6], float(close))

        reasons = ["gripper: beyond -1 to 1"] if abs(grip) > 1 else []
        return self._go(asked, wanted, reasons)

    def send_pose(self, target: ArrayLike) -> Sent:
        """Check, then move toward an absolute flange pose [7], at most one step far."""
        asked = _numbers(target)
        if asked is None:
            return self._refuse(target, [f"numbers: {_short(target)} is not seven finite numbers"])
        pose = np.append(np.clip(asked[:6], -10, 10), float(asked[6] > 0.5))
        return self._go(asked, lambda _: pose, [])

    def _go(self, asked: Array, wanted: Callable[[Array], Array], reasons: list[str]) -> Sent:
        state = self.arm.state()
        blocked = self._blocked(state)
        if blocked:
            return self._refuse(asked, [*reasons, blocked])
        base = self._base(state)
        target, more = self.limits.allow(base, wanted(base), state.q)
        reasons = reasons + more
        if target is None:
            return self._refuse(asked, reasons)
        action = pose_diff(base, target)
        action[6] = target[6] - float(self.closed)
        sent = Sent(action=action, target=target, reasons=tuple(reasons))
        if self.confirm is not None and not self.confirm(sent):
            return self._refuse(asked, [*reasons, "person: not confirmed"])
        if not self.execute:
            return self._refuse(asked, [*reasons, "dry run"], sent)
        self._write(asked, sent, state)
        self.commanded, self.closed = target.copy(), bool(target[6] > 0.5)
        done = self.arm.send_pose(target)
        if done.reasons:
            sent = Sent(action=action, target=done.target, reasons=(*reasons, *done.reasons))
            self.commanded = done.target.copy()
            self._write(asked, sent, state)
        return sent

    def _blocked(self, state: ArmState) -> str:
        if self.tripped:
            return f"latched: {self.tripped}"
        if state.errors:
            return f"arm: {', '.join(state.errors)}"
        numbers = np.concatenate([state.state, state.q])
        if not np.isfinite(numbers).all():
            return "state: not finite"
        if state.age_s > self.config.max_state_age_s:
            return f"state: {state.age_s:.2f} s old, at most {self.config.max_state_age_s}"
        return ""

    def _refuse(self, asked: ArrayLike, reasons: list[str], would: Sent | None = None) -> Sent:
        sent = Sent(
            action=np.zeros(7) if would is None else would.action,
            target=self.commanded.copy() if would is None else would.target,
            reasons=tuple(reasons), refused=True,
        )  # fmt: skip
        self._write(asked, sent, None)
        return sent

    def _write(self, asked: ArrayLike, sent: Sent, state: ArmState | None) -> None:
        for kind in {reason.split(":")[0] for reason in sent.reasons} or {"as asked"}:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.log is None:
            return
        row = {
            "time_s": time.time(), "asked": _short(asked), "sent": _rounded(sent.action),
            "target": _rounded(sent.target), "refused": sent.refused, "reasons": sent.reasons,
            "state": None if state is None else _rounded(state.state),
        }  # fmt: skip
        self.log.write(json.dumps(row) + "\n")
        self.log.flush()

    def trip(self, reason: str) -> None:
        """Stop the arm and refuse everything until `recover`."""
        self.tripped = self.tripped or reason
        self.arm.stop()

    def stop(self) -> None:
        """Stop at once and stay."""
        self.arm.stop()
        self.begin()

    def recover(self) -> None:
        """Clear errors and the latch; only after a person has looked."""
        self.arm.recover()
        self.tripped = ""
        self.begin()

    def close(self) -> None:
        """Let go of the arm."""
        self.arm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _numbers(values: ArrayLike) -> Array | None:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (7,) and bool(np.isfinite(array).all()) else None


def _rounded(values: Array) -> list[float]:
    return [round(float(v), 6) for v in values]


def _short(values: ArrayLike) -> Any:
    try:
        flat = np.asarray(values, dtype=np.float64).ravel()[:8]
    except (TypeError, ValueError):
        return repr(values)[:80]
    return [float(v) if np.isfinite(v) else str(v) for v in flat]
