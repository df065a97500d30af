"""Constants shared by the modules of this package, with units and sources."""

import math

GRIPPER_DEAD_BAND = 0.15
"""Dead band of gripper commands (-1 .. 1): a smaller magnitude leaves the gripper unchanged."""

MAX_STEP_M = 0.075
"""Default maximum translation of one action along an axis [m]. Source: V-JEPA 2, sec. 4.2."""

MAX_ROTATION_RAD = 0.15
"""Default maximum rotation of one action about an axis [rad]."""

PERIOD_S = 0.25
"""Default duration of an action [s]: 4 Hz, as in the training of V-JEPA 2-AC."""

FLANGE_TO_TCP_M = 0.1034
"""Distance along the flange's z axis to the point between the fingertips of a Franka Hand [m]."""

FLANGE_TO_HAND_YAW_RAD = -math.pi / 4
"""Rotation of a Franka Hand about the flange's z axis; its finger pads are parallel to the hand's
x axis [rad]."""

POSE_DIM = 7
"""Length of a DROID pose and of its action: position (3), Euler angles (3), closedness (1)."""

POSITION_DIM = 4
"""Length of a state and an action without rotation: position (3), closedness (1)."""
