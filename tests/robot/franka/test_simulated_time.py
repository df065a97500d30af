"""An arm whose time waits is measured in its own time: a busy machine makes it slow, not late."""

import os
import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("franky")

from envs.twin.twin import Twin
from robot.errors import ArmError
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, SafetyConfig

HANG_S = 120.0
LIMIT_S = 2.0
"""Limits of motion, heartbeats and watchdog; the 3 cm at 0.05 m/s take less of the arm's time."""
FREEZE_S = 2 * LIMIT_S


@pytest.fixture(scope="module")
def twin():
    with Twin("grasp", client_s=HANG_S) as twin:
        yield twin


def connect(twin):
    twin.reset(3)
    config = FrankaConfig(
        address=twin.address,
        realtime=False,
        clock="arm",
        max_speed_m_s=0.05,
        motion_timeout_s=LIMIT_S,
        connect_timeout_s=HANG_S,
    )
    ages = WatchdogConfig(planner_s=LIMIT_S, frame_s=LIMIT_S, state_s=HANG_S, kill_s=HANG_S)
    return FrankaArm(config, ages)


def freeze_on_the_way(arm, pid):
    """Freeze a process for longer than every limit, in the middle of the next motion."""
    start = arm.state().state[:3]

    def freeze():
        until = time.monotonic() + 120.0
        while np.linalg.norm(arm.link.read().state[:3] - start) < 0.005:
            assert time.monotonic() < until
            time.sleep(0.002)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(FREEZE_S)
        os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=freeze)
    thread.start()
    return thread


def test_a_frozen_server_or_driver_delays_a_motion_and_does_not_end_it(twin):
    with connect(twin) as arm:
        safe = SafeArm(arm, SafetyConfig(), solver=Kinematics(), execute=True)
        for pid, move in ((twin.pid, 0.03), (arm.driver_pid, -0.03)):
            freeze = freeze_on_the_way(arm, pid)
            sent = safe.send([move, 0, 0, 0, 0, 0, 0])
            freeze.join()
            assert not sent.refused, sent.reasons
            assert arm.state().errors == ()
        assert not safe.send([0.005, 0, 0, 0, 0, 0, 0]).refused


def move_to_and_fro(arm):
    for move in (0.07, -0.07) * 20:
        arm.send([move, 0, 0, 0, 0, 0, 0])


def test_a_silent_watchdog_stops_it_in_its_own_time_too(twin):
    with connect(twin) as arm:
        os.kill(arm.watchdog_pid, signal.SIGSTOP)
        with pytest.raises(ArmError, match="watchdog"):
            move_to_and_fro(arm)
