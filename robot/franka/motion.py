"""The motion that takes a Franka's hand to a pose: slow where it may touch, and it yields to touch.

Near the table the way down is slow, since an arm that lands at full speed has its collision
thresholds passed before anything could stop it. A motion that meets more than `contact_n` ends
where it is, in libfranka's own control loop, short of those thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.arm import Reason

Array = NDArray[np.float64]

PRESSED_N = 2.0
"""A motion that begins while the hand presses already may press by this much more."""
SPLIT_M = 0.005
"""A way that begins so little above the slow zone is slow as a whole."""
SHORT_RAD, SLOWEST = 0.05, 0.05
"""Joints that go less far are not looked at; no motion is made slower than this share."""
SHORT_M = 5e-4
"""A motion whose last command is this far from its target was ended by contact."""


@dataclass(frozen=True)
class Pace:
    """How fast a motion is, as shares of the arm's largest speed, acceleration and jerk."""

    share: float
    """Of all three."""
    slow_share: float
    """Of the speed, on the way down in the slow zone."""
    slow_below_m: float
    """Height of the end effector under which the way down is slow, in the base frame."""


def speed_scale(
    start: Array,
    target: Array,
    *,
    speed_m_s: float,
    turn_rad_s: float,
    joints_rad: float,
    joint_rad_s: float,
) -> float:
    """Share of its pace (0..1) at which a motion keeps the joints' mean speed.

    A stretched arm needs much of its joints for little way: at full pace more speed and torque than
    they have, and the arm swings past its target.

    Args:
        start: pose [4, 4] of the end effector.
        target: where it goes.
        speed_m_s: along the way.
        turn_rad_s: about it.
        joints_rad: way of the joint that has the longest.
        joint_rad_s: largest mean speed of it.
    """
    if joints_rad < SHORT_RAD:
        return 1.0
    length = float(np.linalg.norm(target[:3, 3] - start[:3, 3]))
    cosine = (float(np.trace(start[:3, :3].T @ target[:3, :3])) - 1) / 2
    seconds = max(length / speed_m_s, float(np.arccos(np.clip(cosine, -1, 1))) / turn_rad_s)
    return min(1.0, max(SLOWEST, joint_rad_s * seconds / joints_rad))


def split_motion(start: Array, target: Array, pace: Pace) -> list[tuple[Array, bool]]:
    """Poses [4, 4] on the way from `start` to `target`, and whether the way to each is slow."""
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
    """A franky motion of the end effector.

    Args:
        start: pose [4, 4] of the end effector now.
        target: where it goes.
        pace: how fast.
        felt_n: what presses on the hand now.
        contact_n: more than this ends the motion; 0: nothing does.
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
    """Return why a motion ended before its target; None if it reached it.

    Args:
        target: Pose [4, 4] of the end effector that was asked for.
        commanded: Last commanded pose [4, 4].
        felt_n: Force at the hand [N].
    """
    short = float(np.linalg.norm(target[:3, 3] - commanded[:3, 3]))
    if short <= SHORT_M:
        return None
    return Reason("contact", f"{felt_n:.0f} N, {1000 * short:.1f} mm short")
