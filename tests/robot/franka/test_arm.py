"""The driver, its watchdog and its faults, through libfranka's own protocol."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("franky")

from envs.twin.server import CLIENT_S
from envs.twin.twin import Twin
from robot.errors import ArmError, ConfigError, UnreachableError
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
from robot.kinematics import Kinematics, flange_pose
from robot.safety.layer import SafeArm, SafetyConfig
from robot.safety.limits import tilt_rad

# the machine that tests run on is slow and busy: generous ages, but a stop stays a stop
SLOW = WatchdogConfig(planner_s=1.5, state_s=1.5, frame_s=1.5, kill_s=4.0)
FAR = [0.075, 0.0, 0.0, 0, 0, 0, 0]


def config(address, **changes):
    return FrankaConfig(
        **{
            "address": address,
            "realtime": False,
            "max_speed_m_s": 0.3,
            "dynamics": 0.4,
            "motion_timeout_s": 10.0,
            "connect_timeout_s": 15.0,
        }
        | changes
    )


@pytest.fixture(scope="module")
def twin():
    with Twin("grasp") as twin:
        yield twin


@pytest.fixture
def arm(twin):
    twin.reset(3)
    with FrankaArm(config(twin.address), SLOW) as arm:
        yield arm


def travelled_after(arm, event, settle_s=1.5):
    """Seconds from `event` until the flange stands, and how far it still went [m]."""
    began, at = time.monotonic(), arm.link.read().state[:3]
    event()
    last, still_since, places = at, began, [at]
    while time.monotonic() - began < settle_s:
        time.sleep(0.01)
        now = arm.link.read().state[:3]
        places.append(now)
        if np.linalg.norm(now - last) > 2e-4:
            last, still_since = now, time.monotonic()
    return still_since - began, float(np.linalg.norm(places[-1] - at))


def during_a_motion(arm, event, delay_s=0.15):
    """Send a long move, cause the event on its way; returns the error and the time to a stop."""
    found = {}

    def cause():
        time.sleep(delay_s)
        found["stop_s"], found["left_m"] = travelled_after(arm, event)

    thread = threading.Thread(target=cause)
    thread.start()
    with pytest.raises(ArmError) as error:
        arm.send(FAR)
    thread.join()
    return str(error.value), found


def test_moves_state_and_gripper(twin, arm):
    before = arm.state().state
    sent = arm.send([0.03, -0.02, -0.03, 0, 0, 0.1, 1.0])
    after = arm.state()
    np.testing.assert_allclose(after.state[:3], sent.target[:3], atol=4e-3)
    flange = flange_pose(after.q)[:3, 3]
    np.testing.assert_allclose(after.state[:3], flange, atol=1e-3)  # measured, not commanded
    np.testing.assert_allclose(sent.action[:3], [0.03, -0.02, -0.03], atol=1e-6)
    assert before[6] < 0.05
    assert after.state[6] > 0.9
    assert after.holding is False  # a grasp on nothing: the width tells
    twin_says = twin.info(closed=True)
    assert twin_says["holding"] is False
    arm.send([0, 0, 0, 0, 0, 0, -1.0])
    assert arm.state().gripper_width_m > 0.07
    assert arm.state().age_s < 1.0


def test_what_is_not_sent(arm):
    for bad in ([np.nan] * 7, [0.0] * 6):
        with pytest.raises(ArmError, match=r"not sent|nothing was sent"):
            arm.send(bad)
    far = arm.state().state
    far[:3] = [1.5, 0.0, 0.3]
    with pytest.raises(UnreachableError):
        arm.send_pose(far)
    assert not arm.link.moving


def beyond_m(twin, arm, stall_s):
    """How far the arm goes beyond its target when its driver freezes on the way [m]; the error."""
    began = twin.info(closed=False)["tcp_m"]
    aim = began[0] + FAR[0]
    ways, on, frozen = [], [True], threading.Event()

    def look():
        while on[0]:
            ways.append(twin.info(closed=False)["tcp_m"][0])
            if ways[-1] > began[0] + 0.02 and not frozen.is_set():
                frozen.set()
                os.kill(arm.driver_pid, signal.SIGSTOP)
                time.sleep(stall_s)
                os.kill(arm.driver_pid, signal.SIGCONT)
            time.sleep(0.002)

    thread = threading.Thread(target=look)
    thread.start()
    error = ""
    try:
        arm.send(FAR)
    except ArmError as problem:
        error = str(problem)
    time.sleep(0.1)
    on[0] = False
    thread.join()
    assert frozen.is_set()
    return max(ways) - aim, error


def test_an_arm_whose_driver_comes_late_does_not_jump(twin, arm):
    beyond, error = beyond_m(twin, arm, 0.4)
    assert (error, beyond < 2e-3) == ("", True), (error, beyond)


def test_a_driver_that_is_silent_for_long_has_its_motion_aborted(twin):
    twin.reset(3)
    patient = WatchdogConfig(planner_s=9.0, state_s=9.0, frame_s=9.0, kill_s=9.0)
    with FrankaArm(config(twin.address), patient) as arm:
        beyond, error = beyond_m(twin, arm, CLIENT_S + 0.5)
        assert "reflex" in error
        assert beyond < 2e-3
        arm.recover()
        arm.send([-0.01, 0, 0, 0, 0, 0, 0])


def test_a_stop_latches_until_a_person_recovers(arm):
    message, found = during_a_motion(arm, lambda: arm.link.stop("a hand is in the way"))
    assert "a hand is in the way" in message
    assert found["left_m"] < 0.04
    with pytest.raises(ArmError, match="a hand is in the way"):
        arm.send(FAR)
    arm.recover()
    arm.send([-0.01, 0, 0, 0, 0, 0, 0])


def test_a_stop_is_not_lifted_while_the_arm_moves(arm, monkeypatch):
    monkeypatch.setattr(arm, "stop", lambda: arm.link.stop("stop was called"))  # does not wait
    seen = {}

    def hasty():
        time.sleep(0.1)
        if arm.link.moving:
            try:
                arm.recover()
            except ArmError as error:
                seen["text"] = str(error)

    thread = threading.Thread(target=hasty)
    thread.start()
    with pytest.raises(ArmError, match="stop was called"):
        arm.send(FAR)
    thread.join()
    assert "still moves" in seen["text"]
    monkeypatch.undo()
    arm.recover()


def test_a_reflex_is_an_error_until_recovered(twin, arm):
    message, _ = during_a_motion(arm, twin.order_reflex)
    assert "recover" in message
    arm.recover()
    arm.send([-0.01, 0, 0, 0, 0, 0, 0])


def press(arm, tip, depth_m, towards_m):
    """Fingertip place [x y of the TCP], then down until it ends; the error's text."""
    state = arm.state().state
    arm.send_pose([*tip, towards_m + 0.03 + 0.113, np.pi, 0, state[5], 0])
    target = arm.state().state
    target[2] -= 0.03 + depth_m
    try:
        arm.send_pose(target)
    except ArmError as error:
        return str(error)
    return ""


def test_a_collision_is_a_reflex_as_its_thresholds_say(twin):
    twin.reset(3)
    with FrankaArm(config(twin.address), SLOW) as arm:
        assert "cartesian_reflex" in press(arm, (0.4, -0.15), 0.02, 0.0)
        stands = arm.state().state
        assert stands[2] > 0.113 - 0.005  # two centimetres were asked for
        assert "reflex" in arm.state().errors[0]
        with pytest.raises(ArmError, match="recover"):
            arm.send(FAR)
        arm.recover()
        assert arm.state().errors == ()
        arm.send([0, 0, 0.03, 0, 0, 0, 0])
        assert arm.state().state[2] > stands[2] + 0.02
        assert "reflex" in press(arm, (0.4, -0.15), 0.02, 0.0)
    with pytest.raises(ArmError, match="clear them in Desk"):
        FrankaArm(config(twin.address), SLOW)
    twin.reset(3)
    with FrankaArm(config(twin.address, max_force_n=100.0, max_torque_nm=100.0), SLOW) as arm:
        assert press(arm, (0.4, -0.15), 0.003, 0.0) == ""  # 30 N or so
        assert arm.state().errors == ()


def test_a_motion_that_touches_ends_short_of_a_collision(twin):
    twin.reset(3)
    gentle = {"slow_m_s": 0.01}
    with FrankaArm(config(twin.address, **gentle), SLOW) as arm:
        state = arm.state().state
        arm.send_pose([0.4, -0.15, 0.13, np.pi, 0, state[5], 0])
        low = arm.state().state
        low[2] -= 0.04  # two centimetres into the table
        sent = arm.send_pose(low)
        assert sent.reasons[0].kind == "contact"
        stands = arm.state().state
        assert 0.108 < stands[2] < 0.114
        assert sent.target[2] == pytest.approx(low[2])  # what was sent
        assert sent.ended[2] == pytest.approx(stands[2], abs=2e-3)  # where the next step begins
        assert arm.state().errors == ()
        assert arm.send([0, 0, -0.02, 0, 0, 0, 0]).reasons[0].kind == "contact"
        assert arm.send([0, 0, 0.03, 0, 0, 0, 0]).reasons == ()  # letting go is no contact
        assert arm.state().state[2] > stands[2] + 0.02
    twin.reset(3)
    with FrankaArm(config(twin.address, contact_n=0.0, **gentle), SLOW) as arm:
        assert "reflex" in press(arm, (0.4, -0.15), 0.02, 0.0)


def test_a_cube_caught_under_a_finger_does_not_tilt_the_hand(twin):
    twin.reset(3)
    cube = twin.info(closed=False)["object_m"]
    with FrankaArm(config(twin.address), SLOW) as arm:
        top = 2 * cube[2]
        error = press(arm, (cube[0], cube[1] + 0.04), 0.03, top)
        assert "reflex" in error
        assert tilt_rad(arm.state().state) < 0.06
        arm.recover()
        arm.send([0, 0, 0.03, 0, 0, 0, 0])
        assert tilt_rad(arm.state().state) < 0.03


def test_stale_frames_stop_a_moving_arm(twin):
    twin.reset(4)
    strict = WatchdogConfig(planner_s=2.0, frame_s=0.2, state_s=2.0, kill_s=4.0)
    with FrankaArm(config(twin.address), strict) as arm:
        arm.link.saw_frame(time.monotonic())  # and never again: the camera froze
        with pytest.raises(ArmError, match="camera frame"):
            arm.send(FAR)
        arm.recover()
        arm.send([-0.01, 0, 0, 0, 0, 0, 0])


def test_a_second_client_and_nobody_there(twin, arm):
    began = time.monotonic()
    with pytest.raises(ArmError, match=r"within|Another client"):
        FrankaArm(config(twin.address, connect_timeout_s=3.0), SLOW)
    assert time.monotonic() - began < 10
    with pytest.raises(ArmError, match=r"FCI|cable"):
        FrankaArm(config("127.9.9.9"), SLOW)
    with pytest.raises(ConfigError, match="dynamics"):
        FrankaArm(config(twin.address, dynamics=2.0), SLOW)


def test_a_killed_driver_says_so(arm):
    message, _ = during_a_motion(arm, lambda: os.kill(arm.driver_pid, signal.SIGKILL))
    assert "create a new FrankaArm" in message
    with pytest.raises(ArmError, match="driver"):
        arm.send(FAR)


def test_a_server_that_dies_or_freezes():
    for kind in (signal.SIGKILL, signal.SIGSTOP):
        with Twin("grasp") as own:
            own.reset(5)
            with FrankaArm(config(own.address), SLOW) as arm:
                message, _ = during_a_motion(arm, lambda own=own, kind=kind: os.kill(own.pid, kind))
                assert "cable" in message or "arm's newest state" in message
            os.kill(own.pid, signal.SIGKILL)


PLANNER = """
import sys, time, os
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
if __name__ == "__main__":
    config = FrankaConfig(address=sys.argv[1], realtime=False, max_speed_m_s=0.05, dynamics=0.3,
                          max_torque_nm=100.0, max_force_n=100.0)
    arm = FrankaArm(config, WatchdogConfig(planner_s=0.2, state_s=2.0, kill_s=4.0))
    print("ready", flush=True)
    arm.send([0.075, 0, 0, 0, 0, 0, 0])
    print("done", flush=True)
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_planner_that_dies_or_hangs_in_mid_motion(twin, tmp_path, kind):
    twin.reset(6)
    script = tmp_path / "planner.py"
    script.write_text(PLANNER)
    process = subprocess.Popen(
        [sys.executable, str(script), twin.address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    try:
        assert process.stdout.readline().strip() == "ready"
        start = twin.info(closed=False)["tcp_m"]
        while np.linalg.norm(twin.info(closed=False)["tcp_m"] - start) < 0.01:
            time.sleep(0.01)
        process.send_signal(kind)
        at = twin.info(closed=False)["tcp_m"]
        time.sleep(1.5)
        moved = 1.0
        until = time.monotonic() + 8.0  # the simulated arm's clock runs slower on a busy machine
        while moved >= 5e-4 and time.monotonic() < until:
            then = twin.info(closed=False)["tcp_m"]
            time.sleep(0.5)
            moved = float(np.linalg.norm(twin.info(closed=False)["tcp_m"] - then))
        assert moved < 5e-4
        assert np.linalg.norm(then - at) < 0.045  # of over 0.06 m that were left
    finally:
        process.kill()
        process.wait()


def test_the_safety_layer_stands_before_the_driver(arm, tmp_path):
    with (tmp_path / "log.jsonl").open("w") as log:
        limits = SafetyConfig(max_state_age_s=2.0)
        safe = SafeArm(arm, limits, solver=Kinematics("fr3"), execute=True, log=log)
        sent = safe.send([0.3, 0, 0, 0, 0, 0, 0])
        assert sent.action[0] == pytest.approx(0.075)
        assert safe.send([np.nan] * 7).refused
        for _ in range(6):
            safe.send([0, 0, -0.075, 0, 0, 0, 0])
    assert arm.state().state[2] > 0.1  # the floor holds
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) >= 8


def test_nothing_moves_without_the_watchdog(arm):
    arm._watchdog.kill()
    time.sleep(1.2)
    with pytest.raises(ArmError, match="watchdog's process"):
        arm.send(FAR)
