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
from planning.skills.programs import Move, Problem
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
    if height_m < 0.0265 or certainty > 0.6:  # low, or long
        assert known["grip_yaw"] == pytest.approx(0.3)
        return
    assert known["grip_yaw"] == pytest.approx(-math.radians(45.0) - home_rad)
    assert known["turn"] == 0
    assert {"vx", "vy"} <= known.keys()


class Shifted(ToyModel):
    """Decodes objects 3.2 cm too near, but not where the arm is at its start; 3 cm are gripped."""

    def locate(self, z):
        found = ToyModel.locate(self, z)
        away = torch.tensor([-0.032, 0.0, 0.0])
        return dataclasses.replace(found, position_m=found.position_m + away)

    def locate_at_home(self, z):
        return ToyModel.locate(self, z)


@pytest.mark.parametrize(("away_m", "success"), [(0.0, True), (0.05, False)])
def test_the_home_head_decodes_what_is_seen_from_the_start_pose(away_m, success):
    env = ToyEnv([pose(0.5, 0.1)], [pose(0.55, 0.0)])
    env.model = Shifted()
    goal = env.sub_goals()[0]
    goal.state[0] += away_m  # away from its start the arm may hide objects
    env.sub_goals = lambda variant: [goal]
    planner = SkillAgent(
        Policy(env.model),
        env.model,
        SkillOptions(),
        lambda s: (s[:3].copy(), 0.0),
        GeometryChooser(),
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
