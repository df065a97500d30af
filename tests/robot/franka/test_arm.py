"""The driver, its watchdog and its faults, through libfranka's own protocol."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("franky")

from envs.twin.twin import Twin
from robot.errors import ArmError, ConfigError, UnreachableError
from robot.franka.arm import GUARD_S, FrankaArm, FrankaConfig, WatchdogConfig
from robot.kinematics import Kinematics, flange_pose
from robot.safety.layer import SafeArm, SafetyConfig
from robot.safety.limits import tilt_rad

# The machine may be busy: ages are generous except where a test is about them, events come when
# the arm has got somewhere and not after some time, and distances are those of the simulated arm.
PATIENT = WatchdogConfig(planner_s=60.0, state_s=60.0, frame_s=60.0, kill_s=60.0)
FAR = [0.075, 0.0, 0.0, 0, 0, 0, 0]
UNDER_WAY_M = 0.01


def config(address, **changes):
    return FrankaConfig(
        **{
            "address": address,
            "realtime": False,
            "max_speed_m_s": 0.2,
            "dynamics": 0.4,
            "motion_timeout_s": 120.0,
            "connect_timeout_s": 60.0,
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
    with FrankaArm(config(twin.address), PATIENT) as arm:
        yield arm


def wait_until(true, seconds=120.0):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.002)
    assert true()


def during_a_motion(arm, event):
    """Send a long move and cause the event on its way; the error, and how far the arm still went.

    The distance is from the event to where the arm was last seen [m].
    """
    start, at = arm.link.read().state[:3], []

    def cause():
        wait_until(lambda: np.linalg.norm(arm.link.read().state[:3] - start) > UNDER_WAY_M)
        at.append(arm.link.read().state[:3])
        event()

    thread = threading.Thread(target=cause)
    thread.start()
    with pytest.raises(ArmError) as error:
        arm.send(FAR)
    thread.join()
    return str(error.value), float(np.linalg.norm(arm.link.read().state[:3] - at[0]))


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
    assert arm.state().age_s < 10.0


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


def test_a_driver_that_is_silent_for_long_has_its_motion_aborted():
    patience_s = 0.5
    with Twin("grasp", client_s=patience_s) as own:
        own.reset(3)
        with FrankaArm(config(own.address), PATIENT) as arm:
            beyond, error = beyond_m(own, arm, patience_s + 0.5)
            assert "reflex" in error
            assert beyond < 2e-3
            arm.recover()


def test_a_stop_latches_until_a_person_recovers(arm):
    message, went_on_m = during_a_motion(arm, lambda: arm.link.stop("a hand is in the way"))
    assert "a hand is in the way" in message
    assert went_on_m < 0.04
    with pytest.raises(ArmError, match="a hand is in the way"):
        arm.send(FAR)
    arm.recover()
    arm.send([-0.01, 0, 0, 0, 0, 0, 0])


def test_a_stop_is_not_lifted_while_the_arm_moves(arm, monkeypatch):
    monkeypatch.setattr(arm, "stop", lambda: arm.link.stop("stop was called"))  # does not wait
    seen = {}

    def hasty():
        with pytest.raises(ArmError) as error:
            arm.recover()
        seen["text"] = str(error.value)

    message, _ = during_a_motion(arm, hasty)
    assert "stop was called" in message
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


def test_a_collision_is_a_reflex_until_recovered(arm):
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


def test_an_arm_with_a_reflex_takes_no_new_client(twin, arm):
    assert "reflex" in press(arm, (0.4, -0.15), 0.02, 0.0)
    arm.close()
    with pytest.raises(ArmError, match="clear them in Desk"):
        FrankaArm(config(twin.address), PATIENT)


def test_a_contact_below_the_thresholds_is_no_collision(twin):
    twin.reset(3)
    with FrankaArm(config(twin.address, max_force_n=100.0, max_torque_nm=100.0), PATIENT) as arm:
        assert press(arm, (0.4, -0.15), 0.003, 0.0) == ""  # 30 N or so
        assert arm.state().errors == ()


GENTLE = {"slow_m_s": 0.01, "slow_below_m": 0.02}


def above_the_table(arm):
    """Go to where the fingers are nine millimetres over the table; the pose 3.2 cm lower."""
    arm.send_pose([0.4, -0.15, 0.122, np.pi, 0, arm.state().state[5], 0])
    low = arm.state().state
    low[2] -= 0.032
    return low


def test_a_motion_that_touches_ends_short_of_a_collision(twin):
    twin.reset(3)
    with FrankaArm(config(twin.address, **GENTLE), PATIENT) as arm:
        low = above_the_table(arm)
        sent = arm.send_pose(low)
        assert sent.reasons[0].kind == "contact"
        stands = arm.state().state
        assert 0.108 < stands[2] < 0.114
        assert sent.target[2] == pytest.approx(low[2])  # what was sent
        assert sent.ended[2] == pytest.approx(stands[2], abs=2e-3)  # where the next step begins
        assert arm.state().errors == ()
        assert arm.send([0, 0, -0.02, 0, 0, 0, 0]).reasons[0].kind == "contact"
        assert arm.send([0, 0, 0.03, 0, 0, 0, 0]).reasons == ()  # moving away is not a contact
        assert arm.state().state[2] > stands[2] + 0.02


def test_without_a_contact_force_the_same_motion_is_a_reflex(twin):
    twin.reset(3)
    with FrankaArm(config(twin.address, contact_n=0.0, **GENTLE), PATIENT) as arm:
        low = above_the_table(arm)
        with pytest.raises(ArmError, match="reflex"):
            arm.send_pose(low)


def test_a_cube_caught_under_a_finger_does_not_tilt_the_hand(twin):
    twin.reset(3)
    cube = twin.info(closed=False)["object_m"]
    with FrankaArm(config(twin.address), PATIENT) as arm:
        top = 2 * cube[2]
        error = press(arm, (cube[0], cube[1] + 0.04), 0.03, top)
        assert "reflex" in error
        assert tilt_rad(arm.state().state) < 0.06
        arm.recover()
        arm.send([0, 0, 0.03, 0, 0, 0, 0])
        assert tilt_rad(arm.state().state) < 0.03


def test_stale_frames_stop_a_moving_arm(twin):
    twin.reset(4)
    strict = replace(PATIENT, frame_s=0.2)
    with FrankaArm(config(twin.address), strict) as arm:
        arm.link.saw_frame(time.monotonic())  # and never again: the camera froze
        with pytest.raises(ArmError, match="camera frame"):
            arm.send(FAR)
        arm.recover()
        arm.send([-0.01, 0, 0, 0, 0, 0, 0])


def test_a_second_client_and_nobody_there(twin, arm):
    with pytest.raises(ArmError, match=r"within 2.0 s.*Another client"):
        FrankaArm(config(twin.address, connect_timeout_s=2.0), PATIENT)
    with pytest.raises(ArmError, match=r"FCI|cable"):
        FrankaArm(config("127.9.9.9", connect_timeout_s=10.0), PATIENT)
    with pytest.raises(ConfigError, match="dynamics"):
        FrankaArm(config(twin.address, dynamics=2.0), PATIENT)


def test_a_killed_driver_says_so(arm):
    message, _ = during_a_motion(arm, lambda: os.kill(arm.driver_pid, signal.SIGKILL))
    assert "create a new FrankaArm" in message
    with pytest.raises(ArmError, match="driver"):
        arm.send(FAR)


AGES = {  # a server that freezes shows by the age of its states alone
    signal.SIGKILL: PATIENT,
    signal.SIGSTOP: replace(PATIENT, state_s=4.0, kill_s=5.0),
}


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "freezes"])
def test_a_server_that_dies_or_freezes(kind):
    with Twin("grasp") as own:
        own.reset(5)
        with FrankaArm(config(own.address), AGES[kind]) as arm:
            message, _ = during_a_motion(arm, lambda: os.kill(own.pid, kind))
            assert "cable" in message or "arm's newest state" in message
        os.kill(own.pid, signal.SIGKILL)


PLANNER = """
import sys, time, os
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
if __name__ == "__main__":
    config = FrankaConfig(address=sys.argv[1], realtime=False, max_speed_m_s=0.04, dynamics=0.3,
                          max_torque_nm=100.0, max_force_n=100.0, connect_timeout_s=60.0,
                          motion_timeout_s=120.0)
    arm = FrankaArm(config, WatchdogConfig(planner_s=0.5, state_s=60.0, kill_s=60.0))
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
        moved = lambda: np.linalg.norm(twin.info(closed=False)["tcp_m"] - start)  # noqa: E731
        wait_until(lambda: moved() > UNDER_WAY_M)
        process.send_signal(kind)
        at = moved()
        places = [at]

        def rests():
            time.sleep(0.5)
            places.append(moved())
            return len(places) > 3 and np.ptp(places[-2:]) < 5e-4

        wait_until(rests)
        assert places[-1] - at < 0.045  # of over 0.06 m that were left
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
    wait_until(lambda: arm.link.guard_age_s > GUARD_S)
    with pytest.raises(ArmError, match="watchdog's process"):
        arm.send(FAR)
