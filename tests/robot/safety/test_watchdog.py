"""The watchdog on shared memory alone: what counts as silence, and what follows a stop."""

import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from robot.safety.process_handle import ProcessHandle
from robot.safety.shared_state import Reading, SharedArmState
from robot.safety.watchdog import WatchdogConfig, find_fault, watch

CONTEXT = multiprocessing.get_context("spawn")
NEVER_S = 3600.0
STRICT = WatchdogConfig(planner_s=0.2, frame_s=0.3, state_s=0.2)


def reading(clock_s, moving=True):
    return Reading(
        clock_s=clock_s,
        state=np.arange(7.0),
        q=np.zeros(7),
        dq=np.zeros(7),
        width_m=0.08,
        holding=False,
        moving=moving,
    )


def alive(moving=True):
    link = SharedArmState(CONTEXT)
    link.write(reading(1.0, moving))
    link.beat()
    link.saw_frame(time.monotonic())
    return link


def test_a_lively_arm_and_an_arm_at_rest_have_no_fault():
    assert find_fault(alive(), STRICT) == ""
    silent = alive(moving=False)
    time.sleep(0.35)
    assert find_fault(silent, STRICT) == ""


@pytest.mark.parametrize(
    ("who", "off"),
    [
        ("planner", {"frame_s": NEVER_S, "state_s": NEVER_S}),
        ("camera frame", {"planner_s": NEVER_S, "state_s": NEVER_S}),
        ("arm's newest state", {"planner_s": NEVER_S, "frame_s": NEVER_S}),
    ],
)
def test_each_silence_is_told_with_its_age_and_limit(who, off):
    link = alive()
    time.sleep(0.35)
    fault = find_fault(link, WatchdogConfig(**({"planner_s": 0.2, "frame_s": 0.3} | off)))
    assert who in fault
    assert "at most" in fault


def test_a_state_whose_clock_stands_still_is_not_fresh():
    link = alive()
    time.sleep(0.25)
    link.write(reading(1.0))  # written again, but the arm's clock did not go on
    stale_s = link.state_age_s
    assert stale_s > 0.2
    link.write(reading(1.001))
    assert link.state_age_s < stale_s


def test_the_first_reason_is_kept_until_cleared():
    link = alive()
    link.stop("first")
    link.stop("second")
    assert link.stopped == "first"
    link.clear()
    assert link.stopped == ""


def test_a_driver_that_does_not_stop_is_killed_and_the_stop_stays():
    link = alive()
    driver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    config = WatchdogConfig(planner_s=0.2, frame_s=NEVER_S, state_s=NEVER_S, kill_s=0.3)
    handle = ProcessHandle(driver.pid)
    process = CONTEXT.Process(target=watch, args=(link, config, handle, os.getpid()), daemon=True)
    process.start()
    try:
        assert driver.wait(timeout=30) != 0  # nobody beats: asked to stop, then ended
        assert "planner" in link.stopped
        link.beat()
        time.sleep(0.1)
        assert "planner" in link.stopped  # signs of life do not lift it
    finally:
        process.kill()
        process.join()
        driver.kill()
        driver.wait()
