"""A stop whose reason is empty, or lost in a race, is a stop for driver, watchdog and planner."""

import multiprocessing

import pytest

from robot.safety.shared_state import SharedArmState

CONTEXT = multiprocessing.get_context("spawn")


@pytest.mark.parametrize("reason", ["", "\0camera", " \n"])
def test_the_flag_is_the_truth(reason):
    link = SharedArmState(CONTEXT)
    link.stop(reason)
    link.stop("the real reason")
    assert link.is_stopped
    assert link.stopped


def test_a_stop_that_meets_a_clearing_is_not_lost():
    link = SharedArmState(CONTEXT)
    link.stop("inspected")
    seen = link.newest_stop
    link.stop("later")
    link.clear(seen)
    assert link.stopped == "later"
