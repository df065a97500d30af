"""Pose arithmetic of the DROID convention, in NumPy.

A state is [x, y, z, roll, pitch, yaw, closedness]: metres in the robot base frame, extrinsic xyz
Euler angles in radians, gripper 0 open to 1 closed. An action is the change between two states:
difference of positions, Euler angles of R_next @ R_now^T, difference of closedness.
All functions of states and angles accept leading batch axes.
Source: V-JEPA 2 (arXiv 2506.09985), sec. 3; DROID.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.constants import FLANGE_TO_TCP_M, FLANGE_TO_TCP_YAW, GRIPPER_DEAD_BAND

Array = NDArray[np.float64]


def euler_to_matrix(angles: ArrayLike) -> Array:
    """Convert extrinsic xyz Euler angles [..., 3, rad] to rotation matrices [..., 3, 3]."""
    x = np.asarray(angles, dtype=np.float64)
    a, b, c = x[..., 0], x[..., 1], x[..., 2]
    sa, ca, sb, cb, sc, cc = np.sin(a), np.cos(a), np.sin(b), np.cos(b), np.sin(c), np.cos(c)
    rows = [
        [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
        [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
        [-sb, cb * sa, cb * ca],
    ]
    matrix = np.array(rows)  # [3, 3, ...]; much faster than np.stack for a single pose
    return matrix if x.ndim == 1 else np.moveaxis(matrix, (0, 1), (-2, -1))


def matrix_to_euler(matrix: ArrayLike) -> Array:
    """Convert rotation matrices [..., 3, 3] to extrinsic xyz Euler angles [..., 3, rad].

    The pitch is within +-pi/2; at its ends the roll is 0.
    """
    m = np.asarray(matrix, dtype=np.float64)
    flat = np.hypot(m[..., 0, 0], m[..., 1, 0])
    pitch = np.arctan2(-m[..., 2, 0], flat)
    regular = flat > 1e-9
    roll = np.where(regular, np.arctan2(m[..., 2, 1], m[..., 2, 2]), 0.0)
    locked_yaw = np.arctan2(-m[..., 0, 1], m[..., 1, 1])
    yaw = np.where(regular, np.arctan2(m[..., 1, 0], m[..., 0, 0]), locked_yaw)
    return np.stack([roll, pitch, yaw], axis=-1)


def rotation_vector(matrix: Array) -> Array:
    """Return axis times angle [3, rad] of a rotation matrix [3, 3]; the angle is 0 to pi."""
    skew = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    sine, cosine = np.linalg.norm(skew) / 2, (np.trace(matrix) - 1) / 2
    if sine < 1e-9:
        return np.zeros(3) if cosine > 0 else np.pi * _half_turn_axis(matrix)
    return skew / (2 * sine) * float(np.arctan2(sine, cosine))


def _half_turn_axis(matrix: Array) -> Array:
    """Return the axis a [3] of a half turn, whose matrix is 2 a a^T - I."""
    outer = (matrix + np.eye(3)) / 2
    column = outer[:, int(np.argmax(np.diag(outer)))]
    return np.asarray(column / max(float(np.linalg.norm(column)), 1e-9))


def rotation_matrix(vector: ArrayLike) -> Array:
    """Return the rotation matrix [3, 3] of axis times angle [3, rad] (Rodrigues' formula)."""
    v = np.asarray(vector, dtype=np.float64)
    angle = float(np.linalg.norm(v))
    x, y, z = v / angle if angle > 0 else v
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def turn_between(angles: ArrayLike, next_angles: ArrayLike) -> Array:
    """Return the rotation from one orientation to another as axis times angle [3, rad].

    The norm is the angle of the rotation. It is not the largest of the three Euler angles of an
    action, which may be smaller by a factor of the square root of three.

    Args:
        angles: Extrinsic xyz Euler angles [3, rad].
        next_angles: Extrinsic xyz Euler angles [3, rad].
    """
    return rotation_vector(euler_to_matrix(next_angles) @ euler_to_matrix(angles).T)


def turn_by(angles: ArrayLike, vector: ArrayLike) -> Array:
    """Return Euler angles [3, rad] rotated by axis times angle [3, rad] in the base frame."""
    return matrix_to_euler(rotation_matrix(vector) @ euler_to_matrix(angles))


def pose_diff(state: ArrayLike, next_state: ArrayLike) -> Array:
    """Return the action [..., 7] that leads from `state` to `next_state`."""
    s, n = np.asarray(state, dtype=np.float64), np.asarray(next_state, dtype=np.float64)
    turn = euler_to_matrix(n[..., 3:6]) @ np.swapaxes(euler_to_matrix(s[..., 3:6]), -1, -2)
    return np.concatenate(
        [n[..., :3] - s[..., :3], matrix_to_euler(turn), n[..., 6:] - s[..., 6:]], axis=-1
    )


def apply_action(state: ArrayLike, action: ArrayLike) -> Array:
    """Return the state [..., 7] after an action; closedness stays within 0 to 1."""
    s, a = np.asarray(state, dtype=np.float64), np.asarray(action, dtype=np.float64)
    turned = euler_to_matrix(a[..., 3:6]) @ euler_to_matrix(s[..., 3:6])
    closed = np.clip(s[..., 6:] + a[..., 6:], 0.0, 1.0)
    return np.concatenate([s[..., :3] + a[..., :3], matrix_to_euler(turned), closed], axis=-1)


def gripper_command(value: float) -> float:
    """Return the meaning of an action's last number: +1 close, -1 open, 0 keep (also for NaN)."""
    return float(np.sign(value)) if abs(value) > GRIPPER_DEAD_BAND else 0.0


def is_closed_after(value: float, closed: bool) -> bool:
    """Return whether the gripper is closed after an action's last number, given its current state.

    Args:
        value: Gripper command; above 0.15 closes, below -0.15 opens, else keeps.
        closed: Whether the gripper was last commanded to close.
    """
    command = gripper_command(value)
    return closed if command == 0.0 else command > 0


def pose_after(state: ArrayLike, action: ArrayLike, closed: bool) -> Array:
    """Return the pose [7] that an action with a gripper command leads to.

    Args:
        state: Pose and closedness [7] from which the action counts.
        action: DROID delta [7] whose last number is a gripper command.
        closed: Whether the gripper was last commanded to close.
    """
    asked = np.asarray(action, dtype=np.float64)
    target = apply_action(state, np.append(asked[:6], 0.0))
    target[6] = float(is_closed_after(float(asked[6]), closed))
    return target


def _along_tool(state: ArrayLike, distance: float, yaw: float) -> Array:
    s = np.asarray(state, dtype=np.float64)
    rotation = euler_to_matrix(s[..., 3:6])
    local = np.zeros((*s.shape[:-1], 3))
    local[..., 2] = yaw
    turned = rotation @ euler_to_matrix(local)
    return np.concatenate(
        [s[..., :3] + distance * rotation[..., :, 2], matrix_to_euler(turned), s[..., 6:]], axis=-1
    )


def flange_to_tcp(state: ArrayLike, distance_m: float = FLANGE_TO_TCP_M) -> Array:
    """Convert states [..., 7] of the flange to those of the point between the fingertips."""
    return _along_tool(state, distance_m, FLANGE_TO_TCP_YAW)


def tcp_to_flange(state: ArrayLike) -> Array:
    """Convert states [..., 7] of the point between the fingertips to those of the flange."""
    return _along_tool(state, -FLANGE_TO_TCP_M, -FLANGE_TO_TCP_YAW)
