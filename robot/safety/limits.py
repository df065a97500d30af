"""Workspace and step limits applied to commands; pure arithmetic, no arm.

The flange and both fingertips are kept in boxes. Boxes are convex, so the straight path between two
positions inside stays inside; rotations are checked for the volume that they sweep along that path.
An arm tracks its target within a few millimetres, more at higher speed, so targets keep `margin_m`
from every face, of which rotations may use half. The limits hold for targets; docs/robot-faults.md
reports how far the arm itself deviated.

Comparisons are written so that NaN refuses (`not value <= limit`), and `Limits.broken` checks every
allowed target once more, whatever way it was made.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import Reason, ReasonKind, Sent
from robot.errors import UnreachableError
from robot.pose import (
    apply_action,
    euler_to_matrix,
    flange_to_tcp,
    matrix_to_euler,
    pose_after,
    pose_diff,
    rotation_matrix,
    turn_between,
)
from robot.safety.config import SafetyConfig

Array = NDArray[np.float64]

TIP_OFFSETS_M = np.array([[x, y, 0.0095] for x in (-0.011, 0.011) for y in (-0.05, 0.05)])
"""Outer corners of the open fingertips in the TCP frame [4, 3]; the fingers open along y."""


class Solver(Protocol):
    """Inverse kinematics of an arm."""

    def solve(self, target: ArrayLike, q: ArrayLike) -> Array:
        """Return joint positions [7, rad] for a flange pose [>=6], near q [7, rad].

        Raises:
            UnreachableError: There is no solution.
        """


def tips_m(state: ArrayLike) -> Array:
    """Return the outer corners of the open fingertips [4, 3, m] for a flange state [7]."""
    tcp = flange_to_tcp(state)
    return np.asarray(tcp[:3] + TIP_OFFSETS_M @ euler_to_matrix(tcp[3:6]).T)


def tilt_rad(state: ArrayLike) -> float:
    """Return the angle between the hand of a flange state [7] and straight down [rad]."""
    down = -euler_to_matrix(np.asarray(state, dtype=np.float64)[3:6])[2, 2]
    return float(np.arccos(np.clip(down, -1.0, 1.0)))


def outside_m(config: SafetyConfig, state: ArrayLike) -> Array:
    """Return the shift [3, m] that brings flange and fingertips of a state into their boxes.

    The boxes have no margin here, and the table is their floor; an arm must never leave them.

    Args:
        config: The limits.
        state: Flange state [7].
    """
    floor = float(np.maximum(config.tip_low_m[2], config.table_z_m))  # max() would drop a NaN
    return _out(config, state, 0.0, floor)


def target_outside_m(config: SafetyConfig, state: ArrayLike, share: float = 1.0) -> Array:
    """Return the shift that gives a target its margin to the boxes and its clearance to the table.

    Args:
        config: The limits.
        state: Flange state [7].
        share: Fraction of margin and clearance that is required.
    """
    margin, clearance = share * config.margin_m, share * config.clearance_m
    floor = float(np.maximum(config.tip_low_m[2] + margin, config.table_z_m + clearance))
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
"""Shifts below this are rounding errors [m]."""
ROUNDING = 1e-6
"""Excess of an allowed target that is a rounding error [m, rad]."""
SWEEP_SHARE = 0.5
"""Fraction of margin and clearance that a rotation's sweep must leave free."""


class Limits:
    """Maps requested poses to allowed ones.

    Args:
        config: The limits.
        solver: Inverse kinematics that checks reach and joint margin; None leaves that to the arm.
    """

    def __init__(self, config: SafetyConfig, solver: Solver | None = None) -> None:
        self.config, self.solver = config, solver

    def judge(self, kind: str, asked: Array, base: Array, closed: bool, q: Array) -> Sent:
        """Check a command; a pure function, so that logged commands can be replayed.

        Args:
            kind: `action`, a DROID delta whose gripper closes above 0.15 and opens below -0.15; or
                `pose`, an absolute flange pose, closed above 0.5.
            asked: Seven finite numbers.
            base: Flange state [7] from which the step counts.
            closed: Whether the gripper was last commanded to close.
            q: Present joint positions [7, rad].
        """
        reasons: list[Reason] = []
        for what, given in (("command", asked), ("reference pose", base), ("joints", q)):
            if not np.isfinite(given).all():
                why = Reason("numbers", f"the {what} is not finite")
                return Sent(action=np.zeros(7), target=base, reasons=(why,), refused=True)
        numbers, grip = np.clip(asked[:6], -10, 10), float(asked[6])
        if kind == "pose":
            requested = np.append(numbers, float(grip > 0.5))
        else:
            if abs(grip) > 1:
                reasons.append(Reason("gripper", "beyond -1 to 1"))
            requested = pose_after(base, np.append(numbers, grip), closed)
        target, changes = self.allow(base, requested, q)
        reasons += changes
        why_not = None if target is None else self.broken(base, target)
        if target is None or why_not is not None:
            reasons += [] if why_not is None else [why_not]
            return Sent(action=np.zeros(7), target=base, reasons=tuple(reasons), refused=True)
        action = pose_diff(base, target)
        action[6] = target[6] - float(closed)
        return Sent(action=action, target=target, reasons=tuple(reasons))

    def allow(self, base: Array, wanted: Array, q: Array) -> tuple[Array | None, list[Reason]]:
        """Return an allowed pose between `base` and `wanted`, with a reason for each change.

        Args:
            base: Flange state [7] from which the step counts.
            wanted: Requested flange state [7].
            q: Present joint positions [7, rad].

        Returns:
            Pose [7] and reasons; the pose is None if no allowed one was found.
        """
        reasons: list[Reason] = []
        target = self._upright(base, self._cap(base, wanted, reasons), reasons)
        shift = target_outside_m(self.config, target)
        if not np.abs(shift).max() <= TINY_M:
            reasons.append(Reason("box", _axes(shift)))
            target = self._into_box(base, target, shift, reasons)
        target = self._sweep(base, target, reasons)
        if reasons and self.config.on_violation == "reject":
            return None, reasons
        still = self._outside(target)
        if not (still <= TINY_M or still < self._outside(base)):
            return None, [
                *reasons,
                Reason("box", f"{still * 1000:.0f} mm outside and not coming back"),
            ]
        return self._reachable(target, q, reasons)

    def broken(self, base: Array, target: Array) -> Reason | None:
        """Return the limit that a target breaks; None if it keeps all of them.

        Args:
            base: Flange state [7] from which the step counts.
            target: Flange state [7] to send.
        """
        step_m = float(np.abs(target[:3] - base[:3]).max())
        turn_rad = float(np.linalg.norm(turn_between(base[3:6], target[3:6])))
        most_tilt = max(self.config.max_tilt_rad, tilt_rad(base))
        checks: tuple[tuple[ReasonKind, float, float, str], ...] = (
            ("step", step_m, self.config.step_m, "m"),
            ("rotation", turn_rad, self.config.step_rad, "rad"),
            ("tilt", tilt_rad(target), most_tilt, "rad"),
            ("box", self._outside(target), self._outside(base), "m"),
        )
        for kind, value, most, unit in checks:
            if not value <= most + ROUNDING:
                return Reason(kind, f"{value:.3f} {unit}, at most {most:.3f}")
        return None

    def _outside(self, pose: Array, share: float = 1.0) -> float:
        return float(np.abs(target_outside_m(self.config, pose, share)).max())

    def _cap(self, base: Array, wanted: Array, reasons: list[Reason]) -> Array:
        step, turn = pose_diff(base, wanted), turn_between(base[3:6], wanted[3:6])
        cap, turn_cap = self.config.step_m, self.config.step_rad
        longest, angle = np.abs(step[:3]).max(), np.linalg.norm(turn)
        if not longest <= cap * (1 + 1e-9):
            reasons.append(Reason("step", f"{longest:.3f} m, at most {cap:.3f}"))
            step[:3] *= cap / longest
        if not angle <= turn_cap * (1 + 1e-9):
            reasons.append(Reason("rotation", f"{angle:.3f} rad, at most {turn_cap:.3f}"))
            step[3:6] = matrix_to_euler(rotation_matrix(turn * (turn_cap / angle)))
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
        """Drop a rotation that would sweep the fingers out of the box along the path.

        An arm may rotate before or after it translates; every pose on its path lies between the two
        poses that combine one end's position with the other's rotation. These may use half of the
        margin; the other half is for the arm's tracking error.
        """
        turned = np.concatenate([base[:3], target[3:]])
        unturned = np.concatenate([target[:3], base[3:6], target[6:]])
        most = max(TINY_M, self._outside(base, SWEEP_SHARE))
        if all(self._outside(pose, SWEEP_SHARE) <= most for pose in (turned, unturned)):
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
        if not most <= self.config.max_joint_step_rad:
            text = f"{most:.2f} rad in one step, at most {self.config.max_joint_step_rad}"
            return None, [*reasons, Reason("joints", text)]
        return target, reasons


def _axes(shift: Array) -> str:
    parts = [f"{n} {v * 1000:+.0f} mm" for n, v in zip("xyz", shift, strict=True) if v]
    return ", ".join(parts)
