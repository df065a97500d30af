"""Motions of a Franka's hand that slow down near the table and end on contact.

Downward motions are slow near the table, since an arm that lands at full speed exceeds its
collision thresholds before anything can stop it. A force above `contact_n`, which is below those
thresholds, ends a motion in libfranka's own control loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.arm import Reason

Array = NDArray[np.float64]

PRESSED_N = 2.0
"""Additional force allowed in a motion that starts in contact [N]."""
SPLIT_M = 0.005
"""A motion that starts less than this above the slow zone is slow throughout [m]."""
SHORT_RAD, SLOWEST = 0.05, 0.05
"""Joint motions below this are not slowed down [rad]; no motion is scaled below this fraction."""
SHORT_M = 5e-4
"""A motion whose last command is farther than this from its target was ended by contact [m]."""


@dataclass(frozen=True)
class Pace:
    """Speed of a motion, as fractions of the arm's maximum speed, acceleration and jerk."""

    share: float
    """Fraction of the maximum speed, acceleration and jerk."""
    slow_share: float
    """Additional speed factor of downward motions in the slow zone."""
    slow_below_m: float
    """Height of the end effector in the base frame below which downward motions are slowed [m]."""


def speed_scale(
    start: Array,
    target: Array,
    *,
    speed_m_s: float,
    turn_rad_s: float,
    joints_rad: float,
    joint_rad_s: float,
) -> float:
    """Return the factor (0..1) that keeps a motion within the maximum mean joint speed.

    A stretched arm needs large joint motion for small moves. At full pace that exceeds the joints'
    speed and torque limits, and the arm overshoots its target.

    Args:
        start: Pose [4, 4] of the end effector.
        target: Target pose [4, 4].
        speed_m_s: Speed of the translation [m/s].
        turn_rad_s: Speed of the rotation [rad/s].
        joints_rad: Maximum motion of any joint [rad].
        joint_rad_s: Maximum mean speed of any joint [rad/s].
    """
    if joints_rad < SHORT_RAD:
        return 1.0
    length = float(np.linalg.norm(target[:3, 3] - start[:3, 3]))
    cosine = (float(np.trace(start[:3, :3].T @ target[:3, :3])) - 1) / 2
    seconds = max(length / speed_m_s, float(np.arccos(np.clip(cosine, -1, 1))) / turn_rad_s)
    return min(1.0, max(SLOWEST, joint_rad_s * seconds / joints_rad))


def split_motion(start: Array, target: Array, pace: Pace) -> list[tuple[Array, bool]]:
    """Split a motion at the slow zone into end poses [4, 4], each with whether its part is slow."""
    low, high = target[2, 3], start[2, 3]
    if low >= min(high, pace.slow_below_m):
        return [(target, False)]
    if high <= pace.slow_below_m + SPLIT_M:
        return [(target, True)]
    above = target.copy()
    part = (high - pace.slow_below_m) / (high - low)
    above[:3, 3] = start[:3, 3] + part * (target[:3, 3] - start[:3, 3])
    return [(above, False), (target, True)]


def make_motion(start: Array, target: Array, pace: Pace, felt_n: float, contact_n: float) -> Any:
    """Return a franky motion of the end effector.

    Args:
        start: Present pose [4, 4] of the end effector.
        target: Target pose [4, 4].
        pace: Speed of the motion.
        felt_n: Present force at the hand [N].
        contact_n: Force that ends the motion [N]; 0 for none.
    """
    import franky

    points = []
    for pose, slow in split_motion(start, target, pace):
        speed = pace.share * (pace.slow_share if slow else 1.0)
        factor = franky.RelativeDynamicsFactor(speed, pace.share, pace.share)
        point = franky.CartesianWaypoint(franky.Affine(pose), relative_dynamics_factor=factor)
        points.append(point)
    motion = franky.CartesianWaypointMotion(points)
    if contact_n:
        x, y, z = franky.Measure.FORCE_X, franky.Measure.FORCE_Y, franky.Measure.FORCE_Z
        most = max(contact_n, felt_n + PRESSED_N)
        touch = x * x + y * y + z * z > most * most
        motion.add_reaction(franky.CartesianPoseReaction(touch, franky.CartesianStopMotion()))
    return motion


def contact_reason(target: Array, commanded: Array, felt_n: float) -> Reason | None:
    """Return why a motion ended before its target; None if it reached the target.

    Args:
        target: Requested pose [4, 4] of the end effector.
        commanded: Last commanded pose [4, 4].
        felt_n: Force at the hand [N].
    """
    short = float(np.linalg.norm(target[:3, 3] - commanded[:3, 3]))
    if short <= SHORT_M:
        return None
    return Reason("contact", f"{felt_n:.0f} N, {1000 * short:.1f} mm short")
