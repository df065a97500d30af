"""A user's arm in its own process: stops, faults and refusals, seen by the planner process."""

import threading
import time
from functools import partial

import numpy as np
import pytest

from robot.arm import ArmSpec, ArmState, Sent
from robot.errors import ArmError, ReflexError, UnreachableError
from robot.hosted import HostedArm, HostedConfig
from robot.safety.watchdog import WatchdogConfig

PATIENT = WatchdogConfig(planner_s=60.0, state_s=60.0, frame_s=60.0, kill_s=60.0)
READY = np.array([0.5, 0.0, 0.3, np.pi, 0.0, 0.0, 0.0])
STEP = [0.02, 0.0, 0.0, 0, 0, 0, 0]


class SlowArm:
    """Moves 2 mm each 10 ms; `fault` says what goes wrong."""

    spec = ArmSpec(max_step_m=0.05)

    def __init__(self, fault=""):
        self.fault, self.pose, self.joints = fault, READY.copy(), 6
        self.halt, self.is_broken = threading.Event(), False

    def state(self):
        if self.fault == "state" and self.is_broken:
            raise OSError("the bus is gone")
        still = np.zeros(self.joints)
        return ArmState(
            time_s=time.monotonic(), state=self.pose.copy(), q=still, dq=still, gripper_width_m=0.08
        )

    def send_pose(self, target):
        self.halt.clear()
        self.is_broken = True
        if self.fault == "unreachable":
            raise UnreachableError("too far")
        if self.fault == "reflex":
            raise ReflexError("hit something")
        while np.abs(target[:3] - self.pose[:3]).max() > 1e-4:
            if self.halt.is_set() and self.fault != "deaf":
                break
            far = self.fault in ("deaf", "endless", "state")
            step_m = 1e-5 if far else 0.002
            self.pose[:3] += np.clip(target[:3] - self.pose[:3], -step_m, step_m)
            time.sleep(0.01)
        return Sent(action=np.zeros(7), target=np.asarray(target))

    def stop(self):
        self.halt.set()

    def recover(self):
        self.is_broken = False
        self.fault = ""

    def close(self):
        pass


class NoArm:
    """Lacks the methods of an arm."""

    spec = ArmSpec()


class WrongSize(SlowArm):
    spec = ArmSpec(action_dim=4)


def wait_until(true, seconds=120.0):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.002)
    assert true()


def host(make=SlowArm, ages=PATIENT, **settings):
    times = {"connect_timeout_s": 60.0, "motion_timeout_s": 60.0} | settings
    return HostedArm(make, HostedConfig(**times), ages)


def failed_motion(arm):
    """Send a move that ends by itself; the error."""
    with pytest.raises(ArmError) as error:
        arm.send(STEP)
    return str(error.value)


def during_a_motion(arm, event):
    """Send a move and cause the event on its way; the error."""
    thread = threading.Thread(target=lambda: (wait_until(lambda: arm.link.moving), event()))
    thread.start()
    with pytest.raises(ArmError) as error:
        arm.send(STEP)
    thread.join()
    return str(error.value)


def test_an_arm_moves_stops_and_recovers():
    with host(partial(SlowArm)) as arm:
        assert arm.spec == SlowArm.spec
        sent = arm.send(STEP)
        assert np.allclose(arm.state().state[:3], [0.52, 0, 0.3], atol=1e-3)
        assert np.allclose(sent.action[:3], STEP[:3])
        arm.stop()
        with pytest.raises(ArmError, match="stop was called"):
            arm.send(STEP)
        arm.recover()
        arm.send([-0.02, *STEP[1:]])
        assert np.allclose(arm.state().state[:3], [0.5, 0, 0.3], atol=1e-3)


def test_a_silent_camera_stops_a_motion_by_the_arms_own_stop():
    ages = WatchdogConfig(planner_s=60.0, state_s=60.0, frame_s=0.2, kill_s=60.0)
    with host(partial(SlowArm, "endless"), ages) as arm:
        arm.link.saw_frame(time.monotonic())
        assert "newest camera frame" in failed_motion(arm)
        wait_until(lambda: not arm.link.moving)
        assert arm.state().errors
        assert np.abs(arm.state().state[:3] - READY[:3]).max() < 0.019


def test_an_arm_that_does_not_stop_loses_its_process():
    ages = WatchdogConfig(planner_s=60.0, state_s=60.0, frame_s=60.0, kill_s=0.2)
    with host(partial(SlowArm, "deaf"), ages) as arm:
        message = during_a_motion(arm, lambda: arm.link.stop("a person"))
        assert "driver's process ended (a person)" in message
        wait_until(lambda: not arm._driver.is_alive())
        with pytest.raises(ArmError, match="create a new HostedArm"):
            arm.send(STEP)


def test_a_motion_that_takes_too_long_is_stopped():
    with host(partial(SlowArm, "endless"), motion_timeout_s=0.3) as arm:
        assert "a motion took over 0.3 s" in failed_motion(arm)


def test_an_arm_whose_state_fails_is_stopped_until_it_is_recovered():
    with host(partial(SlowArm, "state")) as arm:
        message = failed_motion(arm)
        assert "the bus is gone" in message
        assert arm.state().errors
        arm.recover()
        arm.send(STEP)


@pytest.mark.parametrize(
    ("fault", "kind", "lasts"),
    [("unreachable", UnreachableError, False), ("reflex", ReflexError, True)],
)
def test_errors_of_the_arm_keep_their_kind(fault, kind, lasts):
    with host(partial(SlowArm, fault)) as arm:
        with pytest.raises(kind):
            arm.send(STEP)
        assert bool(arm.state().errors) is lasts
        arm.recover()
        arm.send(STEP)


def refuse():
    raise OSError("no such device")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (NoArm, "lacks methods: state, send_pose"),
        (WrongSize, "actions of 4 numbers"),
        (refuse, "no such device"),
    ],
)
def test_what_is_no_arm_is_refused(make, message):
    with pytest.raises(ArmError, match=message):
        host(make)
