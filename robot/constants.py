"""Constants shared by the modules of this package."""

from __future__ import annotations

import numpy as np

PERIOD_S = 0.25
"""Control period of DROID actions [s]."""
MAX_STEP_M = 0.075
"""Maximum change of position per action and axis [m]. Source: V-JEPA 2, sec. 4.2."""
MAX_ROTATION_RAD = 0.15
"""Maximum angle of the rotation of an action [rad]."""
GRIPPER_DEAD_BAND = 0.15
"""Dead band of gripper commands: values above it close the gripper, values below its negative open
it."""
MAX_WIDTH_M = 0.08
"""Distance between the fingers of an open Franka hand [m]."""
MIN_HELD_M = 0.012
"""Closed fingers wider than this hold an object [m]."""
FLANGE_TO_TCP_M = 0.1034
"""Distance from the flange (panda_link8) to the point between the fingertips, along the flange's
z axis [m]."""
FLANGE_TO_TCP_YAW = -np.pi / 4
"""Rotation of the hand about the flange's z axis [rad]."""
