"""Forward and inverse kinematics of Franka arms, in NumPy.

Denavit-Hartenberg parameters in Craig's convention, as published by the manufacturer; the Panda and
the FR3 share them and differ in joint limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.errors import UnreachableError
from robot.pose import euler_to_matrix, rotation_vector
from robot.ranges import between, check_number

Array = NDArray[np.float64]

_HALF = np.pi / 2
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -_HALF),
    (0.0, 0.316, _HALF),
    (0.0825, 0.0, _HALF),
    (-0.0825, 0.384, -_HALF),
    (0.0, 0.0, _HALF),
    (0.088, 0.0, _HALF),
)
"""a [m], d [m], alpha [rad] of joints 1 to 7."""
STRETCHED = 0.04
"""Smallest singular value of the Jacobian (m and rad mixed) below which an arm counts as stretched:
there a move of 1 cm may need a joint motion of 0.25 rad, beyond the joints' speed and torque
limits."""
FLANGE_M = 0.107
"""Distance from joint 7 to the flange along its z axis [m]."""
DAMPING = 1e-4
"""Damping of the least squares; it keeps small errors from causing large swings near a stretched
arm."""


@dataclass(frozen=True)
class JointLimits:
    """Ranges of the seven joints [rad]."""

    low: tuple[float, ...]
    high: tuple[float, ...]


LIMITS = {
    "fr3": JointLimits(
        (-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159),
        (2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159),
    ),
    "panda": JointLimits(
        (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
        (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    ),
}


def _frames(q: ArrayLike) -> Array:
    """Return the frames of the seven joints and the flange at q [7]: T_base_frame [8, 4, 4]."""
    frames = np.empty((8, 4, 4))
    pose = np.eye(4)
    for i, ((a, d, alpha), angle) in enumerate(zip(DH, np.asarray(q, dtype=float), strict=True)):
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [
                [c, -s, 0, a],
                [s * ca, c * ca, -sa, -d * sa],
                [s * sa, c * sa, ca, d * ca],
                [0, 0, 0, 1],
            ]
        )
        frames[i] = pose
    frames[7] = pose
    frames[7, :3, 3] += FLANGE_M * pose[:3, 2]
    return frames


def flange_pose(q: ArrayLike) -> Array:
    """Return T_base_flange [4, 4] at joint positions q [7, rad]."""
    return _frames(q)[7]


def jacobian(q: ArrayLike) -> Array:
    """Return the flange's velocity (m/s, rad/s, base frame) per joint velocity: [6, 7]."""
    frames = _frames(q)
    axes = frames[:7, :3, 2]
    arms = frames[7, :3, 3] - frames[:7, :3, 3]
    return np.concatenate([np.cross(axes, arms), axes], axis=1).T


def stretch(q: ArrayLike) -> float:
    """Return the Jacobian's smallest singular value at q [7]; it is 0 for a fully stretched arm."""
    return float(np.linalg.svd(jacobian(q), compute_uv=False)[-1])


def damped_least_squares(
    error: Array, jacobian: Array, *, damping: float = DAMPING, free: Array | None = None
) -> Array:
    """Return the joint step that reduces a pose error: J^T (J J^T + damping I)^-1 error.

    Args:
        error: Pose error [6] (m, rad, base frame), or several as columns [6, n].
        jacobian: Velocity per joint velocity [6, J].
        damping: Larger values give smaller steps where the arm is nearly singular.
        free: 1 for joints that may move, 0 for those that may not [J]; None frees all.

    Returns:
        Joint step [J, rad], or several as columns [J, n].

    Source: Wampler (1986), Nakamura and Hanafusa (1986).
    """
    j = jacobian if free is None else jacobian * free
    return np.asarray(j.T @ np.linalg.solve(j @ j.T + damping * np.eye(len(j)), error))


class Kinematics:
    """Damped inverse kinematics that keeps a margin from the joint limits.

    Args:
        arm: Arm model, `fr3` or `panda`.
        margin_rad: Margin kept from every joint limit [rad].

    Raises:
        UnreachableError: Unknown arm model.
        ConfigError: The margin is out of its range.
    """

    def __init__(self, arm: str = "fr3", margin_rad: float = 0.1) -> None:
        if arm not in LIMITS:
            raise UnreachableError(f"Unknown arm {arm!r}; known: {', '.join(LIMITS)}")
        check_number("margin_rad", margin_rad, between(0, 0.5, "rad"))
        self.low = np.array(LIMITS[arm].low) + margin_rad
        self.high = np.array(LIMITS[arm].high) - margin_rad
        self.margin_rad = margin_rad

    def solve(self, target: ArrayLike, q: ArrayLike, *, iterations: int = 40) -> Array:
        """Return joint positions [7, rad] near `q` whose flange pose is `target`.

        An arm that is already within the margin of a limit, or stretched, may only move away.

        Args:
            target: Flange pose [x y z roll pitch yaw, ...] in the base frame (m, rad).
            q: Joint positions to start from [7, rad].
            iterations: Maximum number of steps.

        Raises:
            UnreachableError: There is no solution within 0.5 mm and 5 mrad, it is within the margin
                of a joint limit, it stretches the arm, or a number is not finite.
        """
        pose, start = np.asarray(target, dtype=float), np.asarray(q, dtype=float)
        if not (np.isfinite(pose[:6]).all() and np.isfinite(start).all()):
            raise UnreachableError(
                f"The flange cannot go to {pose[:6].tolist()} from joints {start.tolist()}: a "
                "number is not finite. Check the arm's state"
            )
        target_rotation, joints = euler_to_matrix(pose[3:6]), start.copy()
        low, high = np.minimum(self.low, start), np.maximum(self.high, start)
        error = np.full(6, np.inf)
        for _ in range(iterations):
            flange = flange_pose(joints)
            error[:3] = pose[:3] - flange[:3, 3]
            error[3:] = rotation_vector(target_rotation @ flange[:3, :3].T)
            if np.abs(error[:3]).max() < 5e-4 and np.abs(error[3:]).max() < 5e-3:
                self._check_stretch(pose, start, joints)
                return joints
            step = damped_least_squares(error, jacobian(joints))
            joints = np.clip(joints + step, low, high)
        at_limit = [str(i + 1) for i in range(7) if joints[i] <= low[i] or joints[i] >= high[i]]
        if at_limit:
            reason = (
                f"joint {', '.join(at_limit)} would come within {self.margin_rad} rad of its limit"
            )
        else:
            reason = f"{np.linalg.norm(error[:3]):.3f} m short"
        raise UnreachableError(
            f"The flange cannot go to {np.round(pose[:6], 3).tolist()}: {reason}. Choose a pose "
            "nearer the table's centre"
        )

    @staticmethod
    def _check_stretch(pose: Array, start: Array, joints: Array) -> None:
        found = stretch(joints)
        if not (found >= STRETCHED or found >= stretch(start)):
            raise UnreachableError(
                f"The flange cannot go to {np.round(pose[:6], 3).tolist()}: the arm would be "
                f"stretched ({found:.3f}, at least {STRETCHED}). Choose a pose nearer the base"
            )
