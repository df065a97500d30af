"""NaN refuses: injected into every sensor, command and setting, it never leads to a motion."""

import dataclasses
import math

import numpy as np
import pytest

from robot.arm import ArmState, Closing, Sent
from robot.cameras.camera import CheckedCamera, Frame
from robot.errors import CameraError, ConfigError, UnreachableError
from robot.fake import READY_Q, FakeArm
from robot.kinematics import Kinematics
from robot.pose import is_closed_after
from robot.safety.config import SafetyConfig
from robot.safety.layer import SafeArm
from robot.safety.limits import Limits
from robot.safety.shared_state import SharedArmState
from robot.safety.watchdog import WatchdogConfig, find_fault
from tests.robot.safety.test_watchdog import CONTEXT, alive, reading

ODD = [math.nan, math.inf, -math.inf]
ARRAYS = [("state", i) for i in range(7)] + [(n, i) for n in ("q", "dq") for i in range(7)]
SENSORS = [*ARRAYS, ("time_s", None), ("gripper_width_m", None), ("age_s", None)]


class Wrapped(Closing):
    """A fake arm with one sensor replaced on demand; it counts what is sent to it."""

    def __init__(self):
        self.arm, self.sent, self.spoilt = FakeArm(), 0, None
        self.spec = self.arm.spec

    def state(self) -> ArmState:
        state = self.arm.state()
        if self.spoilt is None:
            return state
        (name, index), odd = self.spoilt
        value = getattr(state, name)
        if index is not None:
            odd, value = np.array(value, dtype=float), odd
            odd[index] = value
        return dataclasses.replace(state, **{name: odd})

    def send_pose(self, target) -> Sent:
        assert np.isfinite(target).all()
        self.sent += 1
        return self.arm.send_pose(target)

    def stop(self):
        self.arm.stop()


@pytest.mark.parametrize("with_solver", [True, False])
def test_a_sensor_that_is_not_finite_moves_nothing(with_solver):
    arm = Wrapped()
    solver = Kinematics() if with_solver else None
    safe = SafeArm(arm, SafetyConfig(), solver=solver, execute=True)
    for sensor in SENSORS:
        for odd in ODD:
            arm.spoilt = sensor, odd
            for sent in (safe.send([0.01, 0, 0, 0, 0, 0.05, 0]), safe.send_pose(safe.commanded)):
                assert sent.refused, (sensor, odd)
                assert sent.reasons[0].kind == "state"
    assert arm.sent == 0
    arm.spoilt = None
    assert not safe.send([0.01, 0, 0, 0, 0, 0.05, 0]).refused


def test_a_reading_from_the_future_moves_nothing():
    arm = Wrapped()
    safe = SafeArm(arm, SafetyConfig(), execute=True)
    arm.spoilt = ("age_s", None), -5.0
    assert safe.send(np.zeros(7)).reasons[0].kind == "state"


@pytest.mark.parametrize("index", range(7))
def test_a_layer_that_begins_at_a_pose_that_is_not_finite_refuses_until_it_begins_again(index):
    arm = Wrapped()
    arm.spoilt = ("state", index), math.nan
    safe = SafeArm(arm, SafetyConfig(), execute=True)
    arm.spoilt = None
    if index < 6:
        assert safe.send(np.zeros(7)).refused
    assert safe.closed == (index == 6)  # an unknown gripper keeps what it may hold
    safe.begin()
    assert not safe.send(np.zeros(7)).refused


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("odd", ODD)
def test_a_command_that_is_not_finite_moves_nothing(index, odd):
    arm = Wrapped()
    safe = SafeArm(arm, SafetyConfig(), execute=True)
    action = np.zeros(7)
    action[index] = odd
    for sent in (safe.send(action), safe.send_pose(safe.commanded + action)):
        assert sent.refused
        assert sent.reasons[0].kind == "numbers"
    assert arm.sent == 0


def _spoilt_config(name, odd):
    """Limits with a setting that construction would have refused."""
    config = SafetyConfig(step_s=1.0)
    value = getattr(config, name)
    object.__setattr__(config, name, (odd, *value[1:]) if isinstance(value, tuple) else odd)
    return config


NUMBERS = [f.name for f in dataclasses.fields(SafetyConfig) if f.name != "on_violation"]
FOR_DRIVERS = {"gripper_force_n", "max_torque_nm", "max_force_n", "contact_n", "slow_zone_m"}
FOR_DRIVERS |= {"slow_m_s", "max_lag_m", "max_lag_rad", "joint_margin_rad"}


@pytest.mark.parametrize("name", NUMBERS)
def test_even_a_setting_smuggled_past_its_check_lets_nothing_through(name):
    """The layer either refuses, or sends what the other limits allow."""
    sound, rng = Limits(SafetyConfig(step_s=1.0)), np.random.default_rng(0)
    start = FakeArm().state().state
    for _ in range(20):
        arm = Wrapped()
        safe = SafeArm(arm, _spoilt_config(name, math.nan), solver=Kinematics(), execute=True)
        sent = safe.send(rng.normal(0, 0.2, 7))
        if name not in FOR_DRIVERS:
            assert sent.refused
            assert arm.sent == 0
        if not sent.refused:
            base = np.append(start[:6], 0.0)
            assert sound.broken(base, sent.target) is None


@pytest.mark.parametrize("field", ["asked", "base", "q"])
def test_the_arithmetic_itself_refuses(field):
    limits, start = Limits(SafetyConfig(), Kinematics()), FakeArm().state().state
    for index in range(7):
        given = {"asked": np.zeros(7), "base": start, "q": np.array(READY_Q)}
        given[field] = given[field].copy()
        given[field][index] = math.nan
        for kind in ("action", "pose"):
            sent = limits.judge(kind, given["asked"], given["base"], False, given["q"])
            assert sent.refused
            assert sent.reasons


def test_a_target_of_nan_breaks_a_limit():
    limits, start = Limits(SafetyConfig()), FakeArm().state().state
    for index in range(6):
        target = start.copy()
        target[index] = math.nan
        assert limits.broken(start, target) is not None
    huge = np.full(7, 1e300)
    assert limits.judge("action", np.zeros(7), huge, False, np.zeros(7)).refused


def test_the_solver_refuses_numbers_that_are_not_finite():
    pose = FakeArm().state().state
    for spoilt in (np.where(np.arange(7) == 2, math.nan, pose), np.full(7, math.inf)):
        with pytest.raises(UnreachableError, match="not finite"):
            Kinematics().solve(spoilt, READY_Q)
    with pytest.raises(UnreachableError, match="not finite"):
        Kinematics().solve(pose, np.full(7, math.nan))


def test_a_gripper_command_of_nan_keeps_the_fingers_as_they_are():
    assert is_closed_after(math.nan, closed=True)
    assert not is_closed_after(math.nan, closed=False)


def smuggled(name, value):
    config = WatchdogConfig()
    object.__setattr__(config, name, value)
    return config


@pytest.mark.parametrize("name", ["planner_s", "frame_s", "state_s"])
def test_the_watchdog_takes_a_limit_of_nan_for_a_fault(name):
    assert find_fault(alive(), WatchdogConfig(planner_s=60, frame_s=60, state_s=60)) == ""
    assert find_fault(alive(), smuggled(name, math.nan)) != ""


@pytest.mark.parametrize("stamp", [math.nan, math.inf, 1e12])
def test_the_watchdog_takes_a_time_of_nan_or_of_the_future_for_a_fault(stamp):
    link = alive()
    link.saw_frame(stamp)
    assert "camera frame" in find_fault(link, WatchdogConfig(planner_s=60, state_s=60))


def test_a_clock_of_nan_is_no_fresh_state():
    link = SharedArmState(CONTEXT)
    link.write(reading(1.0))
    before = link.read()
    link.write(reading(math.nan))
    after = link.read()
    assert after.time_s == before.time_s
    assert after.age_s >= before.age_s


class Fixed:
    """A camera of one frame."""

    def __init__(self, image, late_s=0.0):
        self.image, self.late_s = image, late_s

    def read(self):
        import time

        return Frame(self.image, time.monotonic() - self.late_s)

    def close(self):
        pass


GREY = np.full((8, 8, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("image", "late_s"),
    [
        (GREY, math.nan),
        (GREY, math.inf),
        (GREY, -5.0),  # stamped by a clock ahead of ours
        (np.full((8, 8, 3), math.nan), 0.0),
        (np.zeros((0, 8, 3), np.uint8), 0.0),
        (np.full((8, 8), 90, np.uint8), 0.0),
        (np.full((8, 8, 4), 90, np.uint8), 0.0),
        (GREY.astype(np.float32), 0.0),
    ],
)
def test_odd_frames_are_refused(image, late_s):
    with pytest.raises(CameraError):
        CheckedCamera(Fixed(image, late_s)).read()
    CheckedCamera(Fixed(GREY)).read()


@pytest.mark.parametrize("name", ["max_age_s", "frozen_s", "dark"])
def test_a_camera_check_of_nan_is_refused(name):
    for odd in (math.nan, -1.0, "1"):
        with pytest.raises(ConfigError, match=name):
            CheckedCamera(Fixed(GREY), **{name: odd})
