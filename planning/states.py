"""Check robot states for the units that models were trained on: metres, radians, closedness."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planning.errors import PlanError

POSE_DIM, POSITION_DIM = 7, 4
"""Numbers of a state or action with angles, and without."""
MAX_REACH_M = 3.0
"""Maximum coordinate of an arm's flange or fingertips in its base frame [m]."""
MAX_ANGLE_RAD = float(np.pi) + 1e-3
"""Maximum Euler angle [rad], with room for rounding."""
CLOSEDNESS = (-0.1, 1.1)
"""Range of a gripper's closedness, with room for noise."""
FIELDS = ("x", "y", "z", "roll", "pitch", "yaw", "closedness")


def without_angles(pose_7: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return position and closedness [4] of a pose [7]."""
    return np.append(pose_7[:3], pose_7[6:])


def check_state(state_S: ArrayLike, name: str = "state") -> None:
    """Check that a state of 7 numbers is finite and plausible in m, rad and closedness.

    States of other lengths have no known meaning and are only checked to be finite.

    Raises:
        PlanError: A number is not finite or out of range; the message names it and its unit.
    """
    values_S = np.asarray(state_S, dtype=np.float64)
    if not np.isfinite(values_S).all():
        raise PlanError(f"{name}={values_S.tolist()} holds NaN or infinity. Give finite numbers.")
    if values_S.shape != (7,):
        return
    low_S = np.array([-MAX_REACH_M] * 3 + [-MAX_ANGLE_RAD] * 3 + [CLOSEDNESS[0]])
    high_S = np.array([MAX_REACH_M] * 3 + [MAX_ANGLE_RAD] * 3 + [CLOSEDNESS[1]])
    wrong = np.flatnonzero((values_S < low_S) | (values_S > high_S))
    if not len(wrong):
        return
    i = int(wrong[0])
    unit, hint = (
        ("m", "millimetres") if i < 3 else ("rad", "degrees") if i < 6 else ("", "a finger width")
    )
    raise PlanError(
        f"{name}: {FIELDS[i]} is {values_S[i]:g}; allowed: {low_S[i]:.4g} to {high_S[i]:.4g} "
        f"{unit}".rstrip()
        + f". A state is x y z [m], three Euler angles [rad] and closedness (0 to 1); {hint} must "
        "be converted."
    )
