"""An arm whose time waits is measured in its own time: a busy machine makes it slow, not late."""

import dataclasses
import functools
import os
import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("franky")

from envs.twin.twin import Twin
from robot.errors import ArmError
from robot.franka.arm import GUARD_S, FrankaArm, FrankaConfig, WatchdogConfig
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, SafetyConfig

HANG_S = 120.0
LIMIT_S = 2.0
"""Limits of motion, heartbeats and watchdog; the 3 cm at 0.05 m/s take less of the arm's time."""
FREEZE_S = 1.5 * LIMIT_S


@pytest.fixture(scope="module")
def twin():
    with Twin("grasp", client_s=HANG_S) as twin:
        yield twin


def connect(twin, limit_s=LIMIT_S, **changes):
    twin.reset(3)
    settings = {
        "address": twin.address,
        "realtime": False,
        "clock": "arm",
        "max_speed_m_s": 0.05,
        "motion_timeout_s": LIMIT_S,
        "connect_timeout_s": HANG_S,
    }
    ages = WatchdogConfig(planner_s=limit_s, frame_s=LIMIT_S, state_s=HANG_S, kill_s=HANG_S)
    return FrankaArm(FrankaConfig(**(settings | changes)), ages)


def on_the_way(arm, act):
    """Act in a thread once the next motion has gone some way; return the thread."""
    start = arm.state().state[:3]

    def wait():
        until = time.monotonic() + 120.0
        while np.linalg.norm(arm.link.read().state[:3] - start) < 0.005:
            assert time.monotonic() < until
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def freeze(pid):
    """Freeze a process for longer than every limit."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(FREEZE_S)
    os.kill(pid, signal.SIGCONT)


def test_a_frozen_server_or_driver_delays_a_motion_and_does_not_end_it(twin):
    with connect(twin) as arm:
        safe = SafeArm(arm, SafetyConfig(), solver=Kinematics(), execute=True)
        for pid, move in ((twin.pid, 0.03), (arm.driver_pid, -0.03)):
            freezing = on_the_way(arm, functools.partial(freeze, pid))
            sent = safe.send([move, 0, 0, 0, 0, 0, 0])
            freezing.join()
            assert not sent.refused, sent.reasons
            assert arm.state().errors == ()
        assert not safe.send([0.005, 0, 0, 0, 0, 0, 0]).refused


def test_a_silent_watchdog_stops_it_in_its_own_time_too(twin):
    """The motion takes several times the limit, so that its end cannot come first."""
    with connect(twin, 0.5, max_speed_m_s=0.02, motion_timeout_s=60.0) as arm:
        freezing = on_the_way(arm, lambda: os.kill(arm.watchdog_pid, signal.SIGSTOP))
        with pytest.raises(ArmError, match="the watchdog's last check is"):
            arm.send([0.07, 0, 0, 0, 0, 0, 0])
        freezing.join()


def test_a_watchdog_that_lacks_processor_time_is_waited_for_but_not_for_ever(twin):
    with connect(twin, connect_timeout_s=60.0) as arm:
        config = arm.config
        os.kill(arm.watchdog_pid, signal.SIGSTOP)
        age_s = arm.link.guard_age_s
        while age_s <= GUARD_S:
            time.sleep(0.01)
            age_s = arm.link.guard_age_s
        arm.config = dataclasses.replace(config, connect_timeout_s=0.5)
        with pytest.raises(ArmError, match="watchdog's process does not run"):
            arm.send([0.005, 0, 0, 0, 0, 0, 0])
        arm.config = config
        os.kill(arm.watchdog_pid, signal.SIGCONT)
        arm.recover()
        arm.send([0.005, 0, 0, 0, 0, 0, 0])
