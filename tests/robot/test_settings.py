"""Numbers that are not fields of a settings class have ranges too."""

import math

import pytest

from robot.errors import ConfigError
from robot.fake import Fault
from robot.franka.config import FrankaConfig
from robot.kinematics import Kinematics
from robot.safety.config import SafetyConfig


@pytest.mark.parametrize("odd", [math.nan, math.inf, -0.1, "0.1", None, True, 10**400])
def test_odd_margins_and_faults_are_refused(odd):
    with pytest.raises(ConfigError, match="margin_rad"):
        Kinematics("fr3", odd)
    with pytest.raises(ConfigError, match="amount"):
        Fault("late", amount=odd)
    with pytest.raises(ConfigError, match="kind"):
        Fault(odd)


def test_a_table_above_the_ceiling_is_an_empty_box():
    with pytest.raises(ConfigError, match="tip box is empty"):
        SafetyConfig(table_z_m=0.6)


def test_an_arm_whose_time_waits_is_no_real_arm():
    with pytest.raises(ConfigError, match="realtime"):
        FrankaConfig(clock="arm")
    assert FrankaConfig(clock="arm", realtime=False).clock == "arm"
