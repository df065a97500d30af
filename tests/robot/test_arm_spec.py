"""Every arm declares its conventions, and nonsense is refused."""

import math
from dataclasses import replace

import pytest

import envs
from robot.arm import ArmSpec
from robot.errors import ConfigError
from robot.fake import FakeArm
from robot.safety.layer import SafeArm, SafetyConfig


def test_arms_declare_their_conventions():
    expected = ArmSpec(
        period_s=0.25,
        state_frame="flange",
        state_dim=7,
        action_dim=7,
        gripper="command",
        max_step_m=0.075,
        max_rotation_rad=0.15,
    )
    env = envs.make("reach", image_size=32)
    assert FakeArm().spec == expected
    assert env.arm_spec == env.arm.spec == replace(expected, camera="left")
    assert env.action_space.high[0] == pytest.approx(expected.max_step_m)
    env.close()


def test_the_safety_layer_passes_the_arm_s_conventions_on():
    assert SafeArm(FakeArm(step_s=0.2), SafetyConfig()).spec.period_s == 0.2


@pytest.mark.parametrize("period_s", [0, -1, math.nan, math.inf])
def test_a_period_that_makes_no_sense_is_refused(period_s):
    with pytest.raises(ConfigError, match="period_s"):
        ArmSpec(period_s=period_s)
