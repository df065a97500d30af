"""Who watches the watchdog: the driver stops the arm when the checks stop, and obeys signals."""

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

FAR = [0.075, 0.0, 0.0, 0, 0, 0, 0]
GUARD_S = 2.0
"""Generous for a busy machine; the benchmark of faults uses a real arm's ages."""


def wait_until(true, seconds=120.0):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.002)
    assert true()


@pytest.fixture(scope="module")
def twin():
    with Twin("grasp", client_s=60.0) as twin:
        yield twin


@pytest.fixture
def arm(twin):
    """A slow arm, so that there is time for a fault on the way."""
    twin.reset(3)
    config = FrankaConfig(
        address=twin.address,
        realtime=False,
        max_speed_m_s=0.01,
        motion_timeout_s=300.0,
        connect_timeout_s=60.0,
    )
    ages = WatchdogConfig(planner_s=GUARD_S, state_s=60.0, kill_s=60.0)
    with FrankaArm(config, ages) as arm:
        yield arm


def during_a_motion(arm, event):
    """Send a long move and cause the event on its way; return the error."""
    start = arm.link.read().state[:3]

    def cause():
        wait_until(lambda: np.linalg.norm(arm.link.read().state[:3] - start) > 0.003)
        event()

    thread = threading.Thread(target=cause)
    thread.start()
    with pytest.raises(ArmError) as error:
        arm.send(FAR)
    thread.join()
    assert np.linalg.norm(arm.link.read().state[:3] - start) < 0.07
    return str(error.value)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_watchdog_that_is_killed_or_frozen_in_mid_motion_stops_the_arm(arm, kind):
    message = during_a_motion(arm, lambda: os.kill(arm._watchdog.pid, kind))
    assert "the watchdog's last check is" in message
    wait_until(lambda: not arm.link.moving)
    with pytest.raises(ArmError, match="watchdog"):
        arm.send(FAR)


def test_a_watchdog_or_driver_asked_to_terminate_stops_the_arm_first(arm):
    message = during_a_motion(arm, lambda: os.kill(arm._watchdog.pid, signal.SIGTERM))
    assert "asked to terminate" in message
    os.kill(arm.driver_pid, signal.SIGTERM)
    wait_until(lambda: not arm._driver.is_alive())
    with pytest.raises(ArmError, match="driver"):
        arm.send(FAR)


def test_a_closed_terminal_and_ctrl_c_leave_the_processes_to_the_planner(arm):
    for pid in (arm.driver_pid, arm._watchdog.pid):
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGINT)
    arm.send([0.001, 0, 0, 0, 0, 0, 0])
    assert arm.state().errors == ()


def test_a_stop_without_a_reason_stops_and_latches(arm):
    assert "without a reason" in during_a_motion(arm, lambda: arm.link.stop(""))
    with pytest.raises(ArmError, match="without a reason"):
        arm.send(FAR)
    arm.recover()
    arm.send([-0.001, 0, 0, 0, 0, 0, 0])


def test_a_stop_during_a_recovery_is_kept(arm, monkeypatch):
    arm.stop()
    wait = arm._wait

    def with_a_stop(*args, **kwargs):
        arm.link.stop("the camera failed meanwhile")
        return wait(*args, **kwargs)

    monkeypatch.setattr(arm, "_wait", with_a_stop)
    arm.recover()
    monkeypatch.undo()
    with pytest.raises(ArmError, match="meanwhile"):
        arm.send(FAR)
    arm.recover()
    arm.send([0.001, 0, 0, 0, 0, 0, 0])
