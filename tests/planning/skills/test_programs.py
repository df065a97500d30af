"""Where skills start, and which objects they move."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from planning.located import Located
from planning.planner import Observation
from planning.policy import Policy
from planning.rollout import run_episode
from planning.skill_options import SkillOptions
from planning.skills.agent import SkillAgent
from planning.skills.choosers import GeometryChooser, SearchChooser
from planning.skills.imagination import Imagination
from planning.skills.motions import PICK_PLACE
from planning.skills.path import Context
from planning.skills.programs import Move, Problem, Program
from planning.skills.search import SkillSearch
from tests.planning.toy_table import HOME, ToyEnv, ToyModel, pose

NOW = [Located(np.array([0.5, 0.1, 0.02]), None), Located(np.array([0.6, -0.1, 0.02]), None)]
GOAL = [Located(np.array([0.55, 0.0, 0.02]), None), NOW[1]]
PROBLEM = Problem(
    seen=Observation(torch.zeros(1, 1, 1), torch.zeros(1, 7)),
    goal_1ND=torch.zeros(1, 1, 1),
    context=Context(tcp_m=HOME[:3], home_tcp_m=HOME[:3]),
    objects=NOW,
    goals=GOAL,
    budget=30,
)


def grip_and_release(problem):
    """Fingertips where the gripper closes and where it opens, for the move that the goal asks."""
    program = Program.of(problem, Move(PICK_PLACE, 0))
    out = program.expand(program.informed_P[None])
    actions = out.actions_BKA[0].astype(float)
    places = problem.context.tcp_m + np.cumsum(actions[:, :3], axis=0)
    close = int(np.flatnonzero(actions[:, 6] > 0)[0])
    release = close + int(np.flatnonzero(actions[close:, 6] < 0)[0])
    return places[close, :2], places[release, :2]


@pytest.mark.parametrize(
    ("height_m", "share"), [(0.0, 0.4), (0.0215, 0.4), (0.023, 0.7), (0.0245, 1), (0.05, 1)]
)
def test_the_aim_shifts_the_grip_of_tall_objects_and_keeps_the_displacement(height_m, share):
    first = np.array([*NOW[0].position_m[:2], height_m])
    now = [dataclasses.replace(NOW[0], position_m=first), *NOW[1:]]
    grip, release = grip_and_release(PROBLEM)
    shifted_grip, shifted_release = grip_and_release(
        dataclasses.replace(PROBLEM, objects=now, aim_m=(0.006, 0.004))
    )
    np.testing.assert_allclose(grip, [0.5, 0.1], atol=1e-6)
    np.testing.assert_allclose(shifted_grip - grip, [0.006 * share, 0.004 * share], atol=1e-6)
    np.testing.assert_allclose(shifted_release - shifted_grip, release - grip, atol=1e-6)


@pytest.mark.parametrize(
    ("height_m", "home_rad", "certainty"),
    [(0.03, 0.0, 0.4), (0.03, 0.2, 0.4), (0.02, 0.0, 0.4), (0.03, 0.0, 0.8)],
)
def test_tall_objects_are_gripped_along_the_line_of_sight(height_m, home_rad, certainty):
    first = np.array([*NOW[0].position_m[:2], height_m])
    now = [Located(first, 0.3, certainty), *NOW[1:]]
    context = dataclasses.replace(PROBLEM.context, home_yaw_rad=home_rad)
    asked = dataclasses.replace(
        PROBLEM,
        objects=now,
        goals=[dataclasses.replace(GOAL[0], certainty=min(certainty, 0.4)), GOAL[1]],
        context=context,
        sight_rad=math.radians(45.0),
    )
    known = asked.informed(Move(PICK_PLACE, 0))
    if height_m < 0.0235 or certainty > 0.6:  # low, or long
        assert known["grip_yaw"] == pytest.approx(0.3)
        return
    assert known["grip_yaw"] == pytest.approx(-math.radians(45.0) - home_rad)
    assert known["turn"] == 0
    assert {"vx", "vy"} <= known.keys()


@pytest.mark.parametrize(("aim_m", "success"), [(0.0, False), (0.02, True)])
def test_the_agent_aims_by_its_options(aim_m, success):
    """The head decodes objects 3.2 cm too near, and the fingers grip within 3 cm."""

    class Shifted(ToyEnv):
        def __init__(self):
            super().__init__([pose(0.5, 0.1)], [pose(0.55, 0.0)])
            self.model.locate = self.locate

        def locate(self, z):
            found = type(self.model).locate(self.model, z)
            away = torch.tensor([-0.032, 0.0, 0.0])
            return dataclasses.replace(found, position_m=found.position_m + away)

    env = Shifted()
    options = SkillOptions(aim_x_m=aim_m, aim_y_m=0.0)
    planner = SkillAgent(
        Policy(env.model), env.model, options, lambda s: (s[:3].copy(), 0.0), GeometryChooser()
    )
    episode = run_episode(env, planner, task="push", seed=0, keep_frames=False)
    assert episode.success is success


def test_an_object_at_its_goal_is_not_moved():
    settled = dataclasses.replace(PROBLEM, settled=frozenset({1}))
    assert {move.target for move in settled.moves(["pick_place"], first=True)} == {0}
    assert {move.target for move in PROBLEM.moves(["pick_place"], first=True)} == {0, 1}


def test_all_objects_may_be_moved_if_all_are_at_their_goals():
    settled = dataclasses.replace(PROBLEM, settled=frozenset({0, 1}))
    assert {move.target for move in settled.moves(["pick_place"], first=True)} == {0, 1}


class Forgetful(ToyModel):
    """Imagines that the second object is lost once the fingers have closed."""

    def unroll(self, z, state, actions, past=None):
        out = super().unroll(z, state, actions, past)
        closed = (actions[..., 6] > 0).cummax(dim=1).values
        out[..., 0, 5] += 0.3 * closed
        return out


def test_at_home_an_object_that_is_imagined_at_its_goal_is_moved():
    env = ToyEnv([pose(0.5, 0.1), pose(0.6, -0.1)], [pose(0.55, 0.0), pose(0.6, -0.1)])
    model = Forgetful(objects=2)
    options = SkillOptions(skill_samples=48)
    chooser = SearchChooser(SkillSearch(Imagination(model, options.roll_out), options))
    planner = SkillAgent(
        Policy(model), model, options, lambda s: (s[:3].copy(), float(s[5])), chooser
    )
    episode = run_episode(env, planner, task="push", seed=0, keep_frames=False)
    assert episode.success
    first = episode.decisions[0]
    assert first.chosen.energy >= first.rest_energy
