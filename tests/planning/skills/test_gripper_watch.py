"""Slow fingers: the agent waits for them, and leaves what they missed."""

import numpy as np
import pytest
import torch

from planning.policy import Policy
from planning.rollout import run_episode
from planning.skill_options import SkillOptions
from planning.skills.agent import SkillAgent
from planning.skills.choosers import GeometryChooser
from planning.skills.gripper_watch import LONGEST, GripperWatch
from tests.planning.toy_table import ToyEnv, ToyModel, pose

CLOSE = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
OPEN, LIFT = -CLOSE, np.array([0, 0, 0.05, 0, 0, 0, 0], np.float32)


def watched(readings, actions):
    """Return a watch after the readings, each but the last followed by an action."""
    watch = GripperWatch()
    for reading, action in zip(readings, [*actions, None], strict=True):
        watch.look(reading)
        if action is not None:
            watch.sent(action)
    return watch


@pytest.mark.parametrize(
    ("readings", "slow"),
    [
        ([0.0, 0.43, 0.43], False),
        ([0.0, 0.43, 0.44], False),
        ([0.0, 1.0, 1.0], False),
        ([0.0, 0.29, 0.44], True),
        ([0.0, 0.4, 0.85], True),
    ],
)
def test_fingers_that_still_move_an_action_after_the_command_are_slow(readings, slow):
    watch = watched(readings, [CLOSE, LIFT])
    assert watch.is_slow is slow
    assert not watch.must_wait


def test_only_slow_fingers_are_waited_for_until_they_are_still():
    watch = watched([0.0, 0.29, 0.44, 0.44, 0.1], [CLOSE, LIFT, LIFT, OPEN])
    assert not watch.must_wait  # opening fingers hold nothing back
    watch.sent(CLOSE)
    for reading, waits in ((0.3, True), (0.43, True), (0.435, False)):
        watch.look(reading)
        assert watch.must_wait is waits
        watch.waited()


def test_fingers_that_never_rest_are_waited_for_a_limited_time():
    watch = watched([0.0, 0.29, 0.44], [CLOSE, LIFT])
    watch.sent(CLOSE)
    count = 0
    for reading in np.linspace(0, 1, 20):
        watch.look(float(reading))
        if not watch.must_wait:
            break
        watch.waited()
        count += 1
    assert count <= LONGEST


@pytest.mark.parametrize(("readings", "empty"), [([0, 0.4, 0.8, 1], True), ([0, 1, 1, 1], False)])
def test_only_slow_fingers_are_known_to_be_empty(readings, empty):
    assert watched(readings, [CLOSE, LIFT, LIFT]).is_empty is empty


class SlowModel(ToyModel):
    """Fingers that need two actions to close; opening takes one."""

    def next_state(self, state, action):
        after = super().next_state(state, action)
        asked = action[:, 6:]
        closes = torch.where(asked.abs() > 0.15, asked > 0, state[:, 6:] > 0.2)
        step = (0.9 * closes - state[:, 6:]).clamp(-1.0, 0.45)
        after[:, 6:] = state[:, 6:] + step
        return after


def test_a_second_grasp_waits_for_slow_fingers():
    env = ToyEnv([pose(0.5, 0.1)], [pose(0.55, 0.0)])
    env.model = SlowModel()
    agent = SkillAgent(
        Policy(env.model),
        env.model,
        SkillOptions(),
        lambda s: (s[:3].copy(), 0.0),
        GeometryChooser(),
    )
    episode = run_episode(env, agent, task="push", seed=0, keep_frames=False)
    closing = [k for k, action in enumerate(episode.actions) if action[6] > 0.15]
    assert len(closing) == 2
    after = [np.abs(np.asarray(episode.actions[k + 1])).max() for k in closing]
    assert after[0] > 0
    assert after[1] == 0
    assert episode.success
