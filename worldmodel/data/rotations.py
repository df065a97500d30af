"""Read rotations in the ways that data sets write them.

Shapes: T control steps, W values of a rotation.
"""

from __future__ import annotations

import numpy as np
import torch

from worldmodel.actions import euler_to_matrix, matrix_to_euler
from worldmodel.data.column_map import ROTATION_WIDTH
from worldmodel.data.episode import Array, EpisodeError

HAND_DOWN = (np.pi, 0.0, 0.0)
"""Euler angles of a hand that points down [rad]; used where a set has no rotations."""
MAX_OFF = 0.1
"""Maximum difference from 1 of the length of a unit quaternion, or of a matrix's column."""


def to_euler(matrices_T33: Array) -> Array:
    """Return the extrinsic xyz Euler angles [T, 3] in rad of rotation matrices."""
    return matrix_to_euler(torch.from_numpy(np.ascontiguousarray(matrices_T33))).numpy()


def from_euler(angles_T3: Array) -> Array:
    """Return the rotation matrices [T, 3, 3] of extrinsic xyz Euler angles in rad."""
    return euler_to_matrix(torch.from_numpy(np.ascontiguousarray(angles_T3))).numpy()


def read_rotations(values_TW: Array, kind: str, *, unit_rad: float = 1.0) -> Array:
    """Return rotation matrices [T, 3, 3].

    Args:
        values_TW: Rotations as recorded.
        kind: How they are written, see `ColumnMap.rotation`.
        unit_rad: Size of the unit of angles [rad].

    Raises:
        EpisodeError: Angles are not in this unit, or the values are not rotations.
    """
    steps, width = values_TW.shape
    if width != ROTATION_WIDTH[kind]:
        raise EpisodeError(
            "column_width", f"a rotation has {width} values; rotation={kind} {ROTATION_WIDTH[kind]}"
        )
    if not np.isfinite(values_TW).all():
        raise EpisodeError("pose_not_finite", "the rotations hold NaN or infinity")
    if kind == "none":
        return from_euler(np.tile(HAND_DOWN, (steps, 1)))
    if kind in ("euler_xyz", "euler_XYZ", "rotvec"):
        angles_T3 = values_TW * unit_rad
        if np.abs(angles_T3).max() > 2 * np.pi + 1e-3:
            raise EpisodeError(
                "angles_not_radians",
                f"an angle is {np.abs(values_TW).max():.1f}; perhaps it is in degrees "
                "(angle_unit=deg)",
            )
        return _from_angles(angles_T3, kind)
    if kind.startswith("quat"):
        return _from_quaternions(values_TW, scalar_first=kind == "quat_wxyz")
    return _from_columns(values_TW, kind)


def _from_angles(angles_T3: Array, kind: str) -> Array:
    if kind == "euler_xyz":
        return from_euler(angles_T3)
    if kind == "rotvec":
        return from_rotation_vectors(angles_T3)
    x, y, z = (from_euler(angles_T3 * axis) for axis in np.eye(3))
    return np.asarray(x @ y @ z)


def from_rotation_vectors(vectors_T3: Array) -> Array:
    """Return rotation matrices [T, 3, 3] (Rodrigues' formula)."""
    angles_T = np.linalg.norm(vectors_T3, axis=1)
    x, y, z = (vectors_T3 / np.maximum(angles_T, 1e-12)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    sines, cosines = np.sin(angles_T)[:, None, None], np.cos(angles_T)[:, None, None]
    return np.asarray(np.eye(3) + sines * cross + (1 - cosines) * (cross @ cross))


def _from_quaternions(values_T4: Array, *, scalar_first: bool) -> Array:
    lengths_T = np.linalg.norm(values_T4, axis=1)
    _require_unit(lengths_T, "quaternions")
    unit_T4 = values_T4 / lengths_T[:, None]
    w, x, y, z = (unit_T4 if scalar_first else np.roll(unit_T4, 1, axis=1)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _from_columns(values_TW: Array, kind: str) -> Array:
    """Return matrices of their first two columns (6d), or of all values row by row."""
    if kind == "matrix":
        whole = values_TW.reshape(-1, 3, 3)
        first, second = whole[:, :, 0], whole[:, :, 1]
    else:
        first, second = values_TW[:, :3], values_TW[:, 3:]
    _require_unit(np.linalg.norm(first, axis=1), "first columns of rotation matrices")
    _require_unit(np.linalg.norm(second, axis=1), "second columns of rotation matrices")
    x = first / np.linalg.norm(first, axis=1, keepdims=True)
    y = second - (x * second).sum(1, keepdims=True) * x
    _require_unit(np.linalg.norm(y, axis=1), "second columns of rotation matrices, made normal,")
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    found = np.stack([x, y, np.cross(x, y)], axis=2)
    if kind == "matrix" and np.abs(found - whole).max() > MAX_OFF:
        raise EpisodeError("rotation_invalid", "the matrices are not rotations")
    return found


def _require_unit(lengths_T: Array, what: str) -> None:
    off = np.abs(lengths_T - 1)
    if off.max() > MAX_OFF:
        step = int(off.argmax())
        raise EpisodeError(
            "rotation_invalid",
            f"{what} have length {lengths_T[step]:.3g} at step {step}; 1 is needed. Is rotation= "
            "right?",
        )
