"""The stop flag decides; its reason is a text. No stop is lost, whatever it says."""

import multiprocessing
import time

import pytest

from robot.safety.shared_state import NO_REASON, SharedArmState

CONTEXT = multiprocessing.get_context("spawn")
ODD_REASONS = ["", " ", "\0", "\0camera", "a\0b", "\udc80", "x" * 5000, "é" * 5000, None, 7]


@pytest.mark.parametrize("reason", ODD_REASONS, ids=lambda r: repr(r)[:12])
def test_a_stop_with_any_reason_is_a_stop(reason):
    state = SharedArmState(CONTEXT)
    state.stop(reason)
    assert state.is_stopped
    assert state.stopped
    state.stop("the next")
    assert state.is_stopped
    state.clear()
    assert not state.is_stopped
    assert state.stopped == ""
    state.stop("again")
    assert state.stopped == "again"


def test_a_stop_without_a_reason_takes_the_next_one():
    state = SharedArmState(CONTEXT)
    state.stop("")
    assert state.stopped == NO_REASON
    state.stop("the camera is gone")
    assert state.stopped == "the camera is gone"


def test_a_stop_after_the_inspection_outlives_the_clearing():
    state = SharedArmState(CONTEXT)
    state.stop("first")
    seen = state.newest_stop
    state.stop("while the person looked")
    state.clear(seen)
    assert state.stopped == "while the person looked"
    state.clear()
    assert not state.is_stopped
    state.clear(seen)  # an old inspection changes nothing
    assert not state.is_stopped


def test_a_repeated_stop_does_not_prolong_the_time_allowed_for_it():
    state = SharedArmState(CONTEXT)
    state.stop("first")
    time.sleep(0.05)
    state.stop("second")
    assert state.stopped_for_s >= 0.05


def _stop_again_and_again(state, seconds, ready):
    until = time.monotonic() + seconds
    ready.set()
    while time.monotonic() < until:
        state.stop("fault")


def test_clearing_races_with_stops_of_another_process():
    state, ready = SharedArmState(CONTEXT), CONTEXT.Event()
    other = CONTEXT.Process(target=_stop_again_and_again, args=(state, 1.0, ready), daemon=True)
    other.start()
    assert ready.wait(60)
    while other.is_alive():
        state.clear(state.newest_stop)
        if state.is_stopped:
            assert state.stopped != ""
    other.join()
    state.stop("")  # no state of the race makes a stop ineffective
    assert state.is_stopped
    assert state.stopped


def test_ages_by_the_arms_clock_wait_with_it():
    from tests.robot.safety.test_watchdog import reading

    state = SharedArmState(CONTEXT, "arm")
    state.write(reading(5.0))
    state.beat()
    state.guard()
    time.sleep(0.05)
    assert state.beat_age_s == state.guard_age_s == 0.0
    state.write(reading(5.3))
    assert state.beat_age_s == pytest.approx(0.3)
    assert state.guard_age_s == pytest.approx(0.3)
    assert state.read().age_s < 60.0
    state.write(reading(0.1))  # a new connection restarts the arm's clock
    assert state.beat_age_s == pytest.approx(0.3)
    state.write(reading(0.2))
    assert state.beat_age_s == pytest.approx(0.4)
