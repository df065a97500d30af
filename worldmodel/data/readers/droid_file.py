"""Keys and arrays of a raw DROID episode's trajectory.h5."""

from __future__ import annotations

import h5py
import numpy as np

from worldmodel.data.episode import Array, EpisodeError

STATE = "observation/robot_state/cartesian_position"
GRIPPER = "observation/robot_state/gripper_position"
JOINTS = "observation/robot_state/joint_positions"
MOVING = "observation/controller_info/movement_enabled"
SENT = "action/delta"
"""Actions as sent; only our own recordings have them."""
OBJECT = "observation/simulation/object_position"
"""Object position [m]; a label from simulators."""
EVENTS = ("estimated_capture", "frame_received", "read_start", "read_end")
"""Kinds of camera timestamps in order of preference."""


def read_array(file: h5py.File, key: str) -> Array:
    """Read a numeric array as float64.

    Raises:
        EpisodeError: The array is missing or not numeric.
    """
    reason = "trajectory_key_missing"
    if key not in file:
        raise EpisodeError(reason, f"trajectory.h5 has no {key}")
    values = file[key][()]
    if not np.issubdtype(values.dtype, np.number) and values.dtype != np.bool_:
        raise EpisodeError(reason, f"{key} holds {values.dtype}, not numbers")
    return np.asarray(values, np.float64)
