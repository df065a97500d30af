"""Numbers that several modules of this package share, each with its unit and its source."""

GRIPPER_DEAD_BAND = 0.15
"""A gripper command of smaller magnitude keeps the gripper as it is; the command is -1 .. 1."""

MAX_STEP_M = 0.075
"""Default largest translation of one action along an axis [m]. Source: V-JEPA 2, sec. 4.2."""

MAX_ROTATION_RAD = 0.15
"""Default largest rotation of one action about an axis [rad]."""

PERIOD_S = 0.25
"""Default time that one action spans [s]: 4 Hz, as V-JEPA 2-AC was trained."""

FLANGE_TO_TCP_M = 0.1034
"""Distance along the flange's z axis to the point between the fingertips of a Franka Hand [m]."""

POSE_DIM = 7
"""Length of a DROID pose and of its action: position (3), Euler angles (3), closedness (1)."""
