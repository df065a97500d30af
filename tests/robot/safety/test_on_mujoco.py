"""The layer over simulated physics: what the arm really did, not only what was sent."""

import mujoco
import numpy as np

from envs.mujoco_arm import MujocoArm, rest_joints
from envs.scene import build_model
from robot.constants import FLANGE_TO_TCP_M
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, SafetyConfig, outside_m

PHYSICS_M = 0.006
"""Servo lag and overshoot of the simulated joints."""


def test_random_commands_keep_the_simulated_arm_in_its_box():
    model = build_model()
    arm = MujocoArm(model, mujoco.MjData(model))
    arm.reset(rest_joints(arm.ik, np.array([0.5, 0.0, 0.2 + FLANGE_TO_TCP_M])))
    low, high = [0.35, -0.2, 0.15], [0.62, 0.2, 0.42]
    config = SafetyConfig(flange_low_m=low, flange_high_m=high)
    safe = SafeArm(arm, config, solver=Kinematics(), execute=True)
    rng = np.random.default_rng(3)
    worst = 0.0
    for _ in range(150):
        action = np.append(rng.uniform(-0.3, 0.3, 3), [*rng.uniform(-0.3, 0.3, 3), 0.0])
        if rng.random() < 0.1:
            action[rng.integers(7)] = np.nan
        safe.send(action)
        worst = max(worst, float(np.abs(outside_m(config, arm.state().state)).max()))
    assert worst < PHYSICS_M
    assert safe.counts["numbers"] > 0
    assert safe.counts["step"] > 0
