"""Numbers that several modules of this package share; each is defined here once."""

from __future__ import annotations

import numpy as np

PERIOD_S = 0.25
"""Control period of DROID actions [s]."""
MAX_STEP_M = 0.075
"""Largest change of position per action and axis [m]. Source: V-JEPA 2, sec. 4.2."""
MAX_ROTATION_RAD = 0.15
"""Largest rotation per action and axis [rad]."""
GRIPPER_DEAD_BAND = 0.15
"""Gripper commands of at most this size keep the gripper as it is; larger ones close, smaller ones
open it."""
MAX_WIDTH_M = 0.08
"""Distance between the fingers of an open Franka hand [m]."""
MIN_HELD_M = 0.012
"""Closed fingers that are further apart than this hold an object [m]."""
FLANGE_TO_TCP_M = 0.1034
"""Distance from the flange (panda_link8) to the point between the fingertips, along the flange's
z axis [m]."""
FLANGE_TO_TCP_YAW = -np.pi / 4
"""Rotation of the hand about the flange's z axis [rad]."""
