"""A simulated arm whose connection is lost in a stall: motion, gripper and clock continue."""

import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import pytest

from robot.franka.config import FrankaConfig
from robot.franka.driver import Driver
from robot.franka.gripper import GripperWorker
from robot.safety.shared_state import SharedArmState

CONTEXT = multiprocessing.get_context("spawn")
SIMULATED = FrankaConfig(realtime=False, clock="arm")


def driver(monkeypatch, moves):
    """Return a driver that is in a motion; connecting again gives an arm without one."""
    here, _ = CONTEXT.Pipe()
    made = Driver(SIMULATED, SharedArmState(CONTEXT, "arm"), here, 1.0)
    monkeypatch.setattr(
        made, "_start", lambda: (moves.append(None), setattr(made, "cut_off", False))
    )
    fresh = SimpleNamespace(poll_motion=lambda: True)
    monkeypatch.setattr(made, "_open", lambda: setattr(made, "robot", fresh))
    made.robot, made.moving, made.waiting = fresh, True, True
    return made


def test_a_motion_cut_off_while_a_reading_was_taken_is_continued(monkeypatch):
    moves, calls = [], []
    made = driver(monkeypatch, moves)

    def publish():
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("libfranka: UDP receive: Timeout")

    made._patiently(publish)
    assert len(calls) == 2
    assert not made._finished()  # an arm without a motion says that it has ended
    assert len(moves) == 1
    assert made._finished()


def test_a_real_arms_lost_connection_is_an_error(monkeypatch):
    made = driver(monkeypatch, [])
    made.config = FrankaConfig()
    error = RuntimeError("libfranka: UDP receive: Timeout")

    def publish():
        raise error

    with pytest.raises(RuntimeError, match="Timeout"):
        made._patiently(publish)


def test_the_clock_never_restarts(monkeypatch):
    made = driver(monkeypatch, [])
    times = [1.0, 1.5, 0.0, 0.25, 0.0, 4.0]
    states = [SimpleNamespace(time=SimpleNamespace(to_sec=lambda t=t: t)) for t in times]
    assert np.diff([made._clock_s(state) for state in states]).tolist() == [0.5, 0, 0.25, 0, 4.0]


class Hand:
    """A gripper whose connection may be lost."""

    width = 0.08

    def __init__(self, lost):
        self.lost = lost

    def grasp_async(self, *_, **__):
        if self.lost:
            raise RuntimeError("libfranka: TCP send bytes: I/O error")
        return SimpleNamespace(wait=lambda _: True, get=lambda: True)


@pytest.mark.parametrize(("config", "problem"), [(SIMULATED, False), (FrankaConfig(), True)])
def test_a_simulated_grippers_transition_is_repeated_on_a_new_connection(config, problem):
    hands = [Hand(lost=True), Hand(lost=False)]
    worker = GripperWorker(lambda: hands.pop(0), config)
    worker.order(close=True)
    until = time.monotonic() + 60.0
    while worker.busy and time.monotonic() < until:
        time.sleep(0.005)
    assert (worker.problem is not None) == problem
    assert len(hands) == problem
    worker.end()
