"""Scripted experts: waypoints computed from the true state and reached by DROID deltas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.mujoco_arm import MujocoArm
from robot.constants import FLANGE_TO_TCP_M

Array = NDArray[np.float64]

TRAVEL_Z_M = 0.16
"""Height of the fingertips while carrying [m]."""
STEP_M = 0.07
"""Maximum change of position per step and axis [m]; below the action space's limit."""
TURN_RAD = 0.15
"""Maximum rotation per step [rad]."""
NEAR_RAD = 0.03
"""Error of the yaw that counts as reached [rad]."""
LOWEST_M = 0.012
"""Height of the fingertips at which they clear the table [m]."""
FINGER_M = 0.01
"""Half the width of the closed fingertips [m]."""


@dataclass(frozen=True)
class WayPoint:
    """A position for the fingertips, followed by a gripper command."""

    tcp_m: tuple[float, ...]
    """Position of the point between the fingertips [3, m]."""
    gripper: float = 0.0
    """Gripper command on arrival: -1 open, 0 keep, +1 close."""
    name: str = ""
    """Name of the sub-goal whose image is rendered here; empty for none."""
    steps: int = 8
    """Step budget of the sub-goal."""
    step_m: float = STEP_M
    """Maximum change of position per step and axis on the way here [m]."""
    yaw_rad: float | None = None
    """Yaw of the gripper, 0 where the fingers open along y; None keeps it."""


def remaining_turn_rad(arm: MujocoArm, point: WayPoint) -> float:
    """Return the rotation that is left to a waypoint's yaw [rad]."""
    return 0.0 if point.yaw_rad is None else point.yaw_rad - arm.yaw_rad


def walk(arm: MujocoArm, point: WayPoint, tolerance_m: float = 0.004) -> NDArray[np.float32]:
    """Return the next action [7] toward a waypoint; the gripper moves once the tips are there."""
    tcp = arm.data.site_xpos[arm.tcp]
    change, turn = np.array(point.tcp_m) - tcp, remaining_turn_rad(arm, point)
    action = np.zeros(7, dtype=np.float32)
    if abs(turn) > NEAR_RAD:
        action[5] = np.clip(turn, -TURN_RAD, TURN_RAD)
    if np.abs(change).max() > tolerance_m:
        action[:3] = change * min(1.0, point.step_m / np.abs(change).max())
    elif action[5] == 0.0:
        action[6] = point.gripper
    return action


def is_done(arm: MujocoArm, point: WayPoint, action: NDArray[np.float32]) -> bool:
    """Return whether a waypoint is done: gripper command done or, without one, position reached."""
    if point.gripper:
        return bool(action[6] == point.gripper and not arm.is_hand_moving)
    near = np.abs(np.array(point.tcp_m) - arm.data.site_xpos[arm.tcp]).max() <= 0.006
    return bool(near and abs(remaining_turn_rad(arm, point)) <= NEAR_RAD)


def run_expert(
    arm: MujocoArm, points: list[WayPoint], max_steps: int = 60
) -> list[tuple[WayPoint, NDArray[np.float32]]]:
    """Visit all waypoints and return the (waypoint, action) of each step.

    Args:
        arm: The arm to move.
        points: Waypoints in order.
        max_steps: Maximum number of steps per waypoint.
    """
    done = []
    for point in points:
        for _ in range(max_steps):
            action = walk(arm, point)
            arm.send(action)
            done.append((point, action))
            if is_done(arm, point, action):
                break
    return done


def grasp_points(
    object_m: Array, yaw_rad: float | None = None, above_m: float | None = None
) -> list[WayPoint]:
    """Return waypoints that grasp an object: above it, down around it, close.

    Args:
        object_m: Position of the object's centre [3, m].
        yaw_rad: Yaw of the gripper; None keeps it.
        above_m: Height of the fingertips before they descend [m]; None is 7 cm above the object.
    """
    x, y, z = (float(v) for v in object_m)
    high = z + 0.07 if above_m is None else above_m
    return [
        WayPoint((x, y, high), -1.0, yaw_rad=yaw_rad),
        WayPoint((x, y, max(z, LOWEST_M)), 0.0),
        WayPoint((x, y, max(z, LOWEST_M)), 1.0, "grasped", 8),
    ]


def pick_place_points(object_m: Array, target_m: Array) -> list[WayPoint]:
    """Return waypoints that grasp, lift, carry above the target, lower and open."""
    x, y, z = (float(v) for v in object_m)
    u, v = (float(w) for w in target_m[:2])
    return [
        *grasp_points(object_m),
        WayPoint((x, y, TRAVEL_Z_M), 0.0, "lifted", 4),
        WayPoint((u, v, TRAVEL_Z_M), 0.0, "above target", 8),
        WayPoint((u, v, z + 0.003), 0.0),
        WayPoint((u, v, z + 0.003), -1.0, "placed", 6),
    ]


def carry_points(
    object_m: Array,
    target_m: Array,
    grip_yaw_rad: float,
    placed_yaw_rad: float,
    travel_m: float = TRAVEL_Z_M,
) -> list[WayPoint]:
    """Return waypoints that grasp, lift, carry, turn, lower, open and rise.

    Args:
        object_m: Position of the object's centre [3, m].
        target_m: Target position [>=2, m].
        grip_yaw_rad: Yaw of the gripper when it closes.
        placed_yaw_rad: Yaw of the gripper when it opens.
        travel_m: Height of the fingertips on the way to the object and to the target [m].
    """
    x, y, z = (float(v) for v in object_m)
    u, v = (float(w) for w in target_m[:2])
    low = max(z, LOWEST_M) + 0.003
    return [
        *grasp_points(object_m, grip_yaw_rad, travel_m),
        WayPoint((x, y, travel_m)),
        WayPoint((u, v, travel_m), yaw_rad=placed_yaw_rad),
        WayPoint((u, v, low)),
        WayPoint((u, v, low), -1.0),
        WayPoint((u, v, travel_m)),
    ]


def push_points(
    object_m: Array, target_m: Array, half_size_m: float, back_m: Array, step_m: float = STEP_M
) -> list[WayPoint]:
    """Return waypoints that push an object with closed fingers, then retreat.

    The push follows one axis at a time, so that the fingers meet the object's faces squarely.

    Args:
        object_m: Position of the object's centre [3, m].
        target_m: Target position of the object [3, m].
        half_size_m: Half of the object's width [m].
        back_m: Start and end position of the fingertips [3, m].
        step_m: Largest change of position per step while the fingers are down [m].
    """
    points = [WayPoint(tuple(float(v) for v in back_m), 1.0)]
    place, z_push = np.array(object_m[:2], dtype=np.float64), 0.02
    for axis in (0, 1):
        gap = float(target_m[axis] - place[axis])
        if abs(gap) < 0.01:
            continue
        side = np.sign(gap) * np.eye(2)[axis]
        behind, end = place - side * (half_size_m + 0.04), place.copy()
        end[axis] = target_m[axis]
        place = end.copy()
        end = end - side * (half_size_m + FINGER_M)
        away = end - 0.03 * side  # lifting while in contact would drag the object along
        stroke = ((behind, 0.12), (behind, z_push), (end, z_push), (away, z_push), (away, 0.12))
        for spot, z in stroke:
            speed = step_m if z == z_push else STEP_M
            points.append(WayPoint((float(spot[0]), float(spot[1]), z), step_m=speed))
    return [*points, WayPoint(tuple(float(v) for v in back_m), -1.0, "pushed", 30)]


def flange_position(tcp_m: Array, flange_to_tcp_m: float = FLANGE_TO_TCP_M) -> Array:
    """Return the flange's position [3, m] for fingertips at `tcp_m` and the tool straight down."""
    return np.asarray(tcp_m, dtype=np.float64) + np.array([0.0, 0.0, flange_to_tcp_m])
