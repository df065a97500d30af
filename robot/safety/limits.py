"""What may be asked of an arm: limits, boxes and steps; pure arithmetic, no arm.

Boxes are kept on the flange and on both fingertips. They are convex, so the straight way between
two places inside stays inside; a rotation is checked for what it sweeps on that way. An arm tracks
its target within some millimetres, the faster the more: targets keep `margin_m` from every face
for that, and rotations sweep over half of it at most. What is kept is the target's place; how far
an arm itself went, docs/robot-faults.md has.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import Reason, Sent
from robot.constants import MAX_ROTATION_RAD, MAX_STEP_M
from robot.errors import ConfigError, UnreachableError
from robot.pose import apply_action, euler_to_matrix, flange_to_tcp, is_closed_after, pose_diff

Array = NDArray[np.float64]

TIP_OFFSETS_M = np.array([[x, y, 0.0095] for x in (-0.011, 0.011) for y in (-0.05, 0.05)])
"""Outer corners of the open fingers' ends in the TCP's frame [4, 3]; the fingers open along y."""


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """Limits of one workcell. Lengths in metres in the robot's base frame, angles in radians."""

    flange_low_m: tuple[float, ...] = (0.28, -0.32, 0.10)
    flange_high_m: tuple[float, ...] = (0.70, 0.32, 0.55)
    tip_low_m: tuple[float, ...] = (0.25, -0.38, 0.0)
    tip_high_m: tuple[float, ...] = (0.75, 0.38, 0.50)
    table_z_m: float = 0.0
    """Height of the table; targets of the fingertips stay `clearance_m` above it."""
    clearance_m: float = 0.001
    margin_m: float = 0.005
    """Targets stay this far inside both boxes, for the arm's tracking error; 0 to 0.02."""
    max_step_m: float = MAX_STEP_M
    """On each axis; a longer step is shortened in its own direction."""
    max_step_rad: float = MAX_ROTATION_RAD
    max_tilt_rad: float = 0.6
    """Of the hand from pointing straight down: tilted further, its body and the wrist could touch
    the table while flange and fingertips are in their boxes."""
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
    contact_n: float = 10.0
    """Force at the hand at which a driver ends a motion, short of a collision; 0: at none."""
    slow_zone_m: float = 0.04
    """Height above the table under which the hand's way down is slow, counted between the
    fingertips: what it holds may land there, and an arm that lands fast has a collision."""
    slow_m_s: float = 0.03
    """Speed of that way, if `max_speed_m_s` is not less."""
    max_lag_m: float = 0.012
    """Actions add up on the last target unless the flange is further than this from it."""
    on_violation: str = "clip"
    """clip: shorten to what is allowed. reject: send nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin_m <= 0.02:
            raise ConfigError(f"margin_m is {self.margin_m}; allowed: 0 to 0.02")
        for name in ("flange_low_m", "flange_high_m", "tip_low_m", "tip_high_m"):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != 3 or not np.isfinite(value).all():
                raise ConfigError(f"{name} is {value}; wanted three finite numbers [m]")
            object.__setattr__(self, name, value)
        for part in ("flange", "tip"):
            low, high = getattr(self, f"{part}_low_m"), getattr(self, f"{part}_high_m")
            if any(a + self.margin_m >= b - self.margin_m for a, b in zip(low, high, strict=True)):
                raise ConfigError(
                    f"{part} box is empty: low {low}, high {high}, margin_m {self.margin_m} [m]"
                )
        caps = {
            "max_step_m": 0.2,
            "max_step_rad": 0.5,
            "max_speed_m_s": 1.0,
            "max_turn_rad_s": 2.0,
            "gripper_force_n": 30.0,
            "max_torque_nm": 20.0,
            "max_force_n": 20.0,
            "max_joint_step_rad": 2.0,
            "max_state_age_s": 2.0,
            "max_tilt_rad": 3.2,
            "slow_m_s": 1.0,
        }
        for name, cap in caps.items():
            if not 0 < getattr(self, name) <= cap:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; allowed: above 0, at most {cap}"
                )
        self._check_touch()
        if self.on_violation not in ("clip", "reject"):
            raise ConfigError(f"on_violation is {self.on_violation!r}; allowed: clip, reject")

    def _check_touch(self) -> None:
        if not 0 <= self.contact_n < self.max_force_n:
            raise ConfigError(
                f"contact_n is {self.contact_n}; allowed: 0 to under max_force_n {self.max_force_n}"
            )
        if not 0 <= self.slow_zone_m <= 0.5:
            raise ConfigError(f"slow_zone_m is {self.slow_zone_m}; allowed: 0 to 0.5")

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


def tilt_rad(state: ArrayLike) -> float:
    """Angle between the hand of a flange state [7] and straight down [rad]."""
    down = -euler_to_matrix(np.asarray(state, dtype=np.float64)[3:6])[2, 2]
    return float(np.arccos(np.clip(down, -1.0, 1.0)))


def outside_m(config: SafetyConfig, state: ArrayLike) -> Array:
    """How to move a flange state [7] so that flange and fingertips are in their boxes [3, m].

    The boxes as they are, with the table as the floor: what an arm must never leave.
    """
    floor = max(config.tip_low_m[2], config.table_z_m)
    return _out(config, state, 0.0, floor)


def target_outside_m(config: SafetyConfig, state: ArrayLike, share: float = 1.0) -> Array:
    """As `outside_m`, for a target: `margin_m` inside the boxes and `clearance_m` off the table.

    Args:
        config: the limits.
        state: flange state [7].
        share: of margin and clearance that is asked for.
    """
    margin, clearance = share * config.margin_m, share * config.clearance_m
    floor = max(config.tip_low_m[2] + margin, config.table_z_m + clearance)
    return _out(config, state, margin, floor)


def _out(config: SafetyConfig, state: ArrayLike, margin_m: float, floor_m: float) -> Array:
    pose = np.asarray(state, dtype=np.float64)
    tips = tips_m(pose)
    tip_low = np.array(config.tip_low_m) + margin_m
    tip_low[2] = floor_m
    below = np.maximum(
        np.array(config.flange_low_m) + margin_m - pose[:3], tip_low - tips.min(axis=0)
    )
    above = np.maximum(
        pose[:3] - np.array(config.flange_high_m) + margin_m,
        tips.max(axis=0) - np.array(config.tip_high_m) + margin_m,
    )
    return np.maximum(below, 0.0) - np.maximum(above, 0.0)


TINY_M = 1e-9
SWEEP_SHARE = 0.5
"""Of margin and clearance that is left when a rotation sweeps over them."""


class Limits:
    """Turns a wanted pose into an allowed one; pure arithmetic, no arm."""

    def __init__(self, config: SafetyConfig, solver: Solver | None = None) -> None:
        self.config, self.solver = config, solver

    def judge(self, kind: str, asked: Array, base: Array, closed: bool, q: Array) -> Sent:
        """What is made of a command; pure, so that a log can be gone through again.

        Args:
            kind: `action`, a DROID delta whose gripper closes over 0.15 and opens under -0.15; or
                `pose`, an absolute flange pose, closed over a half.
            asked: seven finite numbers.
            base: flange state [7] that the step counts from.
            closed: what the gripper was last told.
            q: joint positions [7] now.
        """
        reasons: list[Reason] = []
        numbers, grip = np.clip(asked[:6], -10, 10), float(asked[6])
        if kind == "pose":
            wanted = np.append(numbers, float(grip > 0.5))
        else:
            if abs(grip) > 1:
                reasons.append(Reason("gripper", "beyond -1 to 1"))
            moved = apply_action(base, np.append(numbers, 0.0))
            wanted = np.append(moved[:6], float(is_closed_after(grip, closed)))
        target, more = self.allow(base, wanted, q)
        reasons += more
        if target is None:
            return Sent(action=np.zeros(7), target=base, reasons=tuple(reasons), refused=True)
        action = pose_diff(base, target)
        action[6] = target[6] - float(closed)
        return Sent(action=action, target=target, reasons=tuple(reasons))

    def allow(self, base: Array, wanted: Array, q: Array) -> tuple[Array | None, list[Reason]]:
        """Allowed pose on the way from `base` to `wanted`, with the reasons for each change.

        Args:
            base: flange state [7] that the step counts from.
            wanted: flange state [7] asked for.
            q: joint positions [7] now.

        Returns:
            (pose, reasons); None for a pose that cannot be mended.
        """
        reasons: list[Reason] = []
        target = self._upright(base, self._cap(base, wanted, reasons), reasons)
        shift = target_outside_m(self.config, target)
        if np.abs(shift).max() > TINY_M:
            reasons.append(Reason("box", _axes(shift)))
            target = self._into_box(base, target, shift, reasons)
        target = self._sweep(base, target, reasons)
        if reasons and self.config.on_violation == "reject":
            return None, reasons
        still = float(np.abs(target_outside_m(self.config, target)).max())
        if still > TINY_M and still >= float(np.abs(target_outside_m(self.config, base)).max()):
            return None, [
                *reasons,
                Reason("box", f"{still * 1000:.0f} mm outside and not coming back"),
            ]
        return self._reachable(target, q, reasons)

    def _cap(self, base: Array, wanted: Array, reasons: list[Reason]) -> Array:
        step = pose_diff(base, wanted)
        cap, turn_cap = self.config.step_m, self.config.max_step_rad
        longest, turn = np.abs(step[:3]).max(), np.abs(step[3:6]).max()
        if longest > cap * (1 + 1e-9):
            reasons.append(Reason("step", f"{longest:.3f} m, at most {cap:.3f}"))
            step[:3] *= cap / longest
        if turn > turn_cap * (1 + 1e-9):
            reasons.append(Reason("rotation", f"{turn:.3f} rad, at most {turn_cap:.3f}"))
            step[3:6] *= turn_cap / turn
        return apply_action(base, np.append(step[:6], wanted[6] - base[6]))

    def _upright(self, base: Array, target: Array, reasons: list[Reason]) -> Array:
        tilt = tilt_rad(target)
        if tilt <= max(self.config.max_tilt_rad, tilt_rad(base) + 1e-9):
            return target
        most = self.config.max_tilt_rad
        text = f"{tilt:.2f} rad from straight down, at most {most}; left out"
        reasons.append(Reason("tilt", text))
        return np.concatenate([target[:3], base[3:6], target[6:]])

    def _into_box(self, base: Array, target: Array, shift: Array, reasons: list[Reason]) -> Array:
        moved = target.copy()
        moved[:3] += shift
        if np.abs(moved[:3] - base[:3]).max() <= self.config.step_m * (1 + 1e-9):
            return moved
        reasons.append(Reason("rotation", "left out, it would push the fingers out of the box"))
        return self._unturned(base, target)

    def _sweep(self, base: Array, target: Array, reasons: list[Reason]) -> Array:
        """Leave a rotation out that would sweep the fingers out of the box on the way.

        An arm may turn sooner than it moves, or later; all that it can pass through lies between
        the two poses that have the one's place and the other's rotation. They may use half of the
        margin: the rest is for the arm's tracking error.
        """

        def out(pose: Array) -> float:
            return float(np.abs(target_outside_m(self.config, pose, SWEEP_SHARE)).max())

        turned = np.concatenate([base[:3], target[3:]])
        unturned = np.concatenate([target[:3], base[3:6], target[6:]])
        if max(out(turned), out(unturned)) <= max(TINY_M, out(base)):
            return target
        reasons.append(Reason("rotation", "left out, it would sweep the fingers out of the box"))
        return self._unturned(base, target)

    def _unturned(self, base: Array, target: Array) -> Array:
        moved = np.concatenate([target[:3], base[3:6], target[6:]])
        moved[:3] += target_outside_m(self.config, moved)
        step = moved[:3] - base[:3]
        moved[:3] = base[:3] + step * min(1.0, self.config.step_m / max(np.abs(step).max(), TINY_M))
        return moved

    def _reachable(
        self, target: Array, q: Array, reasons: list[Reason]
    ) -> tuple[Array | None, list[Reason]]:
        if self.solver is None:
            return target, reasons
        try:
            joints = self.solver.solve(target, q)
        except UnreachableError as error:
            return None, [*reasons, Reason("reach", str(error))]
        most = float(np.abs(joints - q).max())
        if most > self.config.max_joint_step_rad:
            text = f"{most:.2f} rad in one step, at most {self.config.max_joint_step_rad}"
            return None, [*reasons, Reason("joints", text)]
        return target, reasons


def _axes(shift: Array) -> str:
    parts = [f"{n} {v * 1000:+.0f} mm" for n, v in zip("xyz", shift, strict=True) if v]
    return ", ".join(parts)
