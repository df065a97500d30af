"""States and actions without rotation, as poses and back.

An arm that never turns has states and actions of four numbers: x, y, z and the gripper. Data sets
hold poses of seven, whose angles are then zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.errors import TaskError

Array = NDArray[np.float64]

POSITION_DIM, POSE_DIM = 4, 7
COLUMNS = (0, 1, 2, 6)
"""Numbers of a pose that a state or action without rotation has."""


def as_pose(values: ArrayLike) -> Array:
    """Return a state or action [7] of one with 7 numbers, or with 4 and no rotation.

    Raises:
        TaskError: It has another number of values.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.shape == (POSE_DIM,):
        return found
    if found.shape != (POSITION_DIM,):
        raise TaskError(
            f"A state or action has shape {found.shape}; allowed: 4 numbers (x, y, z, gripper), or "
            "7 with three angles before the gripper"
        )
    pose = np.zeros(POSE_DIM)
    pose[list(COLUMNS)] = found
    return pose
