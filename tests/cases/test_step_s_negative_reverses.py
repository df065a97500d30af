"""A control period that is not a positive number is refused; no step goes backwards."""

import math

import numpy as np
import pytest

from robot.errors import ConfigError
from robot.fake import FakeArm
from robot.safety.config import SafetyConfig
from robot.safety.limits import Limits


@pytest.mark.parametrize("step_s", [-1.0, 0.0, -1e-9, math.nan, math.inf, "1", True])
def test_an_odd_control_period_is_refused(step_s):
    with pytest.raises(ConfigError, match=r"step_s=.*; allowed: a finite number from 0.001"):
        SafetyConfig.read({"step_s": step_s})


@pytest.mark.parametrize("step_s", [0.01, 0.25, 10.0, None])
def test_a_wish_to_move_forwards_never_moves_backwards(step_s):
    base = FakeArm().state().state
    limits = Limits(SafetyConfig.read({"step_s": step_s}))
    sent = limits.judge("action", np.array([0.02, 0, 0, 0, 0, 0, 0]), base, False, np.zeros(7))
    assert 0 < sent.action[0] <= 0.02 + 1e-9
