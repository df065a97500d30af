"""The loop's own rules: how old a frame's plan may be, and what ends an episode."""

import math
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from planning.drive_log import reason_kinds
from planning.driving import drive_episode
from planning.protocols import Decision


@dataclass
class Frame:
    image: np.ndarray
    time_s: float


class Camera:
    def read(self):
        return Frame(np.zeros((4, 4, 3), np.uint8), time.monotonic())


@dataclass
class Sent:
    action: np.ndarray
    target: np.ndarray
    reasons: tuple = ()
    refused: bool = False


@dataclass
class Arm:
    sent: list = field(default_factory=list)

    def state(self):
        return type("State", (), {"state": np.zeros(7), "q": np.zeros(7), "time_s": 0.0})()

    def send(self, action):
        self.sent.append(action)
        return Sent(np.asarray(action), np.zeros(7))


class Slow:
    """Plans so long; then as many more steps as `left` says."""

    def __init__(self, seconds, left=6):
        self.seconds, self.left = seconds, left

    def begin(self, goals, seed):
        pass

    def act(self, observation):
        if not self.left:
            return None
        self.left -= 1
        time.sleep(self.seconds)
        return Decision(
            action=np.full(7, 0.01), sub_goal=0, energy=1.0, imagined=0.5, seconds={}, plan=[]
        )


def drive(agent, **options):
    arm, steps = Arm(), []
    why = drive_episode(arm, Camera(), agent, [], seed=0, listen=steps.append, **options)
    return why, arm, steps


def test_a_plan_from_an_old_frame_is_not_sent_and_again_and_again_ends_the_episode():
    why, arm, steps = drive(Slow(0.12), max_age_s=0.1)
    assert arm.sent == []
    assert len(steps) == 3
    assert "frame: 0.1" in str(steps[0].sent.reasons[0])
    assert "at most 0.1 s" in why
    assert "max_plan_s" in why
    assert "3 actions refused" in why


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 5.0), (0.05, math.inf)])
def test_a_plan_in_time_is_sent(seconds, most):
    why, arm, steps = drive(Slow(seconds), max_age_s=most)
    assert why == ""
    assert len(arm.sent) == 6
    assert steps[-1].decision is None


def test_one_late_plan_among_others_does_not_end_the_episode():
    agent = Slow(0.0)
    act, calls = agent.act, []

    def sometimes(observation):
        calls.append(1)
        if len(calls) in (2, 4):
            time.sleep(1.2)
        return act(observation)

    agent.act = sometimes
    why, arm, steps = drive(agent, max_age_s=1.0)
    assert why == ""
    assert len(arm.sent) == 4
    assert sum(bool(s.sent and s.sent.refused) for s in steps) == 2


def test_kinds_of_reasons_are_read_from_new_and_older_logs():
    texts = ["frame: 0.12 s old: too old", "dry run"]
    assert reason_kinds({"reasons": texts, "reason_kinds": ["frame", "dry run"]}) == [
        "frame",
        "dry run",
    ]
    assert reason_kinds({"reasons": texts}) == ["frame", "dry run"]


def test_the_oldest_of_several_frames_decides_whether_a_plan_is_sent():
    class Old(Camera):
        def read(self):
            return Frame(np.ones((4, 4, 3), np.uint8), time.monotonic() - 9.0)

    agent, seen = Slow(0.0), []
    act = agent.act
    agent.act = lambda observation: seen.append(observation) or act(observation)
    why, arm, steps = drive(agent, max_age_s=5.0, others={"wrist": Old()})
    assert arm.sent == []
    assert "frame: 9.0" in why
    assert seen[0].keys() == {"image", "image_wrist", "state"}
    assert steps[0].oldest is steps[0].others["wrist"]
    why, arm, _ = drive(Slow(0.0), max_age_s=5.0, others={"wrist": Camera()})
    assert (why, len(arm.sent)) == ("", 6)
