"""Thresholds of NaN: refused when they are read, and a comparison with one refuses."""

import math

import numpy as np
import pytest

from planning.apps.check_view import require_same_view
from planning.arm_options import CalibrateOptions, CheckViewOptions
from planning.errors import DriveError, PlanError
from robot.calibrate import View, solve_axes
from robot.errors import CalibrationError, ConfigError
from robot.safety.watchdog import WatchdogConfig

VIEW = View(difference=0.0, shift_px=(0.0, 0.0))


@pytest.mark.parametrize("name", ["max_difference", "max_shift_px"])
def test_check_view(name):
    with pytest.raises(PlanError, match=name):
        CheckViewOptions(reference="r.png", **{name: math.nan})
    options = CheckViewOptions(reference="r.png")
    require_same_view(VIEW, options)
    object.__setattr__(options, name, math.nan)
    with pytest.raises(DriveError):
        require_same_view(VIEW, options)


@pytest.mark.parametrize(
    "view",
    [
        View(difference=math.nan, shift_px=(0.0, 0.0)),
        View(difference=0.0, shift_px=(0.0, math.nan)),
        View(difference=0.0, shift_px=(math.nan, 0.0)),
    ],
)
def test_a_view_whose_difference_is_unknown_is_another_view(view):
    with pytest.raises(DriveError):
        require_same_view(view, CheckViewOptions(reference="r.png"))


@pytest.mark.parametrize("name", ["max_condition", "max_residual"])
def test_calibrate(name):
    with pytest.raises(PlanError, match=name):
        CalibrateOptions(**{name: math.nan})
    rng = np.random.default_rng(0)
    moves, inferred = rng.normal(size=(12, 2)), rng.normal(size=(12, 2))
    for odd in (math.nan, math.inf, -1.0, "0.5"):
        with pytest.raises((CalibrationError, ConfigError)):
            solve_axes(moves, inferred, **{"max_residual": 0.5, name: odd})


@pytest.mark.parametrize("name", ["planner_s", "frame_s", "state_s", "kill_s", "period_s"])
def test_watchdog(name):
    with pytest.raises(ConfigError, match=name):
        WatchdogConfig(**{name: math.nan})
