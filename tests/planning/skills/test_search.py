"""Planning with skills on a table whose physics the model knows exactly."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from planning.errors import EnergyError
from planning.located import Located, pair_objects, wrap_half_turn
from planning.planner import Observation
from planning.policy import Policy
from planning.rollout import run_episode
from planning.skill_options import SkillOptions
from planning.skills.agent import SkillAgent
from planning.skills.choosers import CopyModel, GeometryChooser, SearchChooser
from planning.skills.imagination import Imagination, locate
from planning.skills.motions import PICK_PLACE
from planning.skills.path import Context
from planning.skills.programs import Problem
from planning.skills.search import SkillSearch
from tests.planning.toy_table import HOME, ToyEnv, ToyModel, pose

CONTEXT = Context(tcp_m=HOME[:3], home_tcp_m=HOME[:3])
SMALL = SkillOptions(skill_samples=48)


def problem(model, now, goal, budget=30, located=True, **changes):
    z, z_goal = (torch.tensor(p, dtype=torch.float32).reshape(1, 1, -1) for p in (now, goal))
    state = torch.tensor(HOME, dtype=torch.float32)[None]
    return Problem(
        seen=Observation(z, state),
        goal_1ND=z_goal,
        context=CONTEXT,
        objects=locate(model, z) if located else None,
        goals=locate(model, z_goal) if located else None,
        budget=budget,
        **changes,
    )


def search(model, options=SMALL):
    return SkillSearch(Imagination(model, options.roll_out), options)


def agent(model, chooser, options=SMALL):
    policy = Policy(model)
    return SkillAgent(policy, model, options, lambda s: (s[:3].copy(), float(s[5])), chooser)


def test_ragged_roll_outs_end_where_one_long_roll_out_is_at_that_step():
    model, rng = ToyModel(), np.random.default_rng(0)
    z = torch.tensor([pose(0.5, 0.1)]).reshape(1, 1, -1)
    state = torch.tensor(HOME, dtype=torch.float32)[None]
    params = rng.uniform(-0.1, 0.1, (150, 6))
    params[:, 5] = rng.uniform(0.07, 0.2, 150)
    out = PICK_PLACE.expand(dataclasses.replace(CONTEXT, object_m=np.array([0.5, 0.1])), params)
    lengths = out.lengths_B.copy()
    lengths[:5] = 0
    for memory in (3, 64):
        ends = Imagination(model, memory).ends(z, state, out.actions_BKA, lengths)
        whole = model.unroll(z, state, torch.from_numpy(out.actions_BKA))
        for i, length in enumerate(lengths):
            expected = whole[i, length - 1] if length else z[0]
            torch.testing.assert_close(ends[i], expected, atol=1e-4, rtol=0)


def test_the_plan_places_the_object_where_the_goal_shows_it():
    model = ToyModel()
    asked = problem(model, [pose(0.5, 0.1)], [pose(0.56, -0.06)])
    plan = search(model).plan(asked, np.random.default_rng(0))
    moved = plan.end_1ND.reshape(5)[:2].numpy() - np.array([0.56, -0.06])
    assert np.linalg.norm(moved) < 0.01
    assert plan.best.energy < 0.2 * plan.rest_energy
    energies = [candidate.energy for candidate in plan.candidates]
    assert energies == sorted(energies)
    shown = [candidate for candidate in plan.candidates if candidate.path_m]
    assert len(shown) == 8
    assert set(plan.seconds) == {"expand", "unroll", "energy"}


class Walled(ToyModel):
    """A wall along x = 0.5 of 14 cm height: what is carried lower is dropped in front of it, and a
    hand whose wide side (y at yaw 0) faces the wall cannot come down beside it."""

    def step(self, z, state, action):
        after = self.next_state(state, action)
        beside = (after[:, 1].abs() < 0.1) & (after[:, 2] < 0.05) & (after[:, 5].abs() < 1.0)
        crosses = (after[:, 1] * state[:, 1] < 0) & (after[:, 2] < 0.16)
        blocked = (beside | crosses)[:, None]
        moved, _ = super().step(z, state, action)
        objects = z.reshape(len(z), self.objects, 5).clone()
        objects[..., 2], objects[..., 4] = 0.022, 0.0
        return torch.where(blocked[..., None], objects.reshape(len(z), 1, -1), moved), after


def test_a_wall_is_crossed_by_the_variant_that_passes_it():
    model = Walled()
    now, goal = [pose(0.5, 0.08)], [pose(0.5, -0.09)]
    options = dataclasses.replace(SMALL, energy="object")
    asked = problem(model, now, goal, budget=40)
    plan = search(model, options).plan(asked, np.random.default_rng(0))
    params = plan.best.params[0]
    assert params["lift"] > 0.13
    assert abs(params["grip_yaw"]) > 1.0
    assert np.linalg.norm(plan.end_1ND.reshape(5)[:2].numpy() - [0.5, -0.09]) < 0.02
    plain = search(ToyModel(), options).plan(asked, np.random.default_rng(0)).best.params[0]
    assert (plain["lift"] < 0.13, abs(plain["grip_yaw"]) < 1.0) == (True, True)


def test_the_search_is_reproducible():
    model = ToyModel()
    asked = problem(model, [pose(0.5, 0.1)], [pose(0.56, -0.06)])
    one, two = (search(model).plan(asked, np.random.default_rng(3)) for _ in range(2))
    assert one.best == two.best


def test_a_turned_goal_is_reached_by_turning():
    model = ToyModel()
    asked = problem(model, [pose(0.5, 0.05, 0.3)], [pose(0.45, 0.0, 1.2)], budget=60)
    plan = search(model).plan(asked, np.random.default_rng(0))
    assert plan.best.skills[0] in ("pick_place", "regrasp")
    assert abs(float(plan.end_1ND.reshape(5)[3]) - 1.2) < 0.1


@pytest.mark.parametrize("located", [True, False])
def test_the_moved_one_of_two_objects_is_chosen(located):
    model = ToyModel(2)
    now = [pose(0.45, 0.1), pose(0.55, -0.1)]
    goal = [pose(0.45, 0.1), pose(0.5, 0.0)]
    wide = SkillOptions(skill_samples=200, skill_iterations=5, skills=["pick_place"])
    options = SMALL if located else wide
    asked = problem(model, now, goal, located=located)
    plan = search(model, options).plan(asked, np.random.default_rng(1))
    ends = plan.end_1ND.reshape(2, 5)[:, :2].numpy()
    np.testing.assert_allclose(ends, [g[:2] for g in goal], atol=0.025)


def test_two_moves_are_planned_in_a_row_when_both_objects_differ():
    model = ToyModel(2)
    now = [pose(0.45, 0.1), pose(0.55, -0.1)]
    goal = [pose(0.55, 0.12), pose(0.45, -0.1)]
    options = dataclasses.replace(SMALL, depth=2, skills=["pick_place"])
    plan = search(model, options).plan(problem(model, now, goal, 60), np.random.default_rng(0))
    assert len(plan.best.skills) == 2
    assert set(plan.best.targets) == {0, 1}
    one = dataclasses.replace(options, depth=1)
    shallow = search(model, one).plan(problem(model, now, goal, 60), np.random.default_rng(0))
    assert plan.best.energy < 0.5 * shallow.best.energy


@pytest.mark.parametrize("energy", ["latent", "object"])
def test_plans_fit_into_the_budget(energy):
    model, options = ToyModel(), dataclasses.replace(SMALL, energy=energy)
    now, goal = [pose(0.5, 0.1)], [pose(0.56, -0.06)]
    lengths = {}
    for budget in range(4, 30):
        asked = problem(model, now, goal, budget=budget)
        plan = search(model, options).plan(asked, np.random.default_rng(0))
        lengths[budget] = None if plan is None else int(plan.expansion.lengths_B[0])
    assert lengths[4] is None
    assert all(length <= budget for budget, length in lengths.items() if length)
    least = min(budget for budget, length in lengths.items() if length)
    # the latent energy compares the goal with the arm back at home, which has to fit as well
    assert lengths[least] < least if energy == "latent" else lengths[least] <= least


def test_object_energy_is_the_distance_of_decoded_objects():
    model = ToyModel(2)
    imagination = Imagination(model)
    z = torch.tensor([*pose(0.5, 0.0), *pose(0.4, 0.1, 0.2)]).reshape(1, 1, -1)
    goal = [
        Located(np.array([0.4, 0.1, 0.02]), 0.2 + np.pi),
        Located(np.array([0.5, 0.03, 0.02]), None),
    ]
    np.testing.assert_allclose(imagination.object_energy(z, goal), [0.03], atol=1e-5)


def test_object_energy_plans_as_well():
    model = ToyModel()
    options = dataclasses.replace(SMALL, energy="object", skills=["pick_place", "push"])
    asked = problem(model, [pose(0.5, 0.1)], [pose(0.56, -0.06)])
    plan = search(model, options).plan(asked, np.random.default_rng(0))
    assert plan.best.energy < 0.02


def test_a_model_that_diverges_is_reported():
    class Diverging(ToyModel):
        def unroll(self, z, state, actions, past=None):
            return super().unroll(z, state, actions) * float("nan")

    model = Diverging()
    asked = problem(model, [pose(0.5, 0.1)], [pose(0.56, -0.06)])
    with pytest.raises(EnergyError, match="imagined end of a skill is not finite"):
        search(model).plan(asked, np.random.default_rng(0))


@pytest.mark.parametrize("look", ["end", "stroke"])
@pytest.mark.parametrize("skills", [["pick_place"], ["push"], ["push", "pick_place", "regrasp"]])
def test_the_agent_solves_the_table_and_returns_home(look, skills):
    env = ToyEnv([pose(0.5, 0.1)], [pose(0.55, 0.0)], steps=60)
    options = dataclasses.replace(SMALL, look=look, skills=skills)
    planner = agent(env.model, SearchChooser(search(env.model, options)), options)
    episode = run_episode(env, planner, task="push", seed=0, keep_frames=False)
    assert episode.success, episode.decisions
    np.testing.assert_allclose(env.state[0, :3].numpy(), HOME[:3], atol=1e-4)
    assert env.state[0, 6] == 0
    whys = [decision.why for decision in episode.decisions]
    assert whys[0] == "plan"
    assert whys[-1] in ("reached", "no better plan")
    assert sum(d.executed for d in episode.decisions) == len(episode.actions)
    assert [d.step for d in episode.decisions] == np.cumsum(
        [0, *(d.executed for d in episode.decisions)]
    )[:-1].tolist()
    row = json.loads(json.dumps(episode.summary(), allow_nan=False))
    assert row["decisions"][0]["chosen"]["skills"][0] in skills
    assert len(row["decisions"][0]["candidates"][0]["path_m"][0]) == 3
    assert episode.decisions[0].imagined_ND.shape == (1, 5)


class FencedEnv(ToyEnv):
    """The hand does not pass y = 0 below a height, which the planner's model does not know."""

    def __init__(self, *args, height, **kwargs):
        super().__init__(*args, **kwargs)
        self.height = height

    def step(self, action):
        after = self.state[0, :3].numpy() + action[:3]
        if after[1] < 0 and min(self.state[0, 2], after[2]) < self.height:
            action = np.concatenate([np.zeros(6), action[6:]]).astype(np.float32)
        return super().step(action)


def test_a_skill_that_was_blocked_gives_way_to_another_variant():
    env = FencedEnv([pose(0.5, 0.12)], [pose(0.5, -0.1)], height=0.15, steps=60)
    planner = agent(env.model, SearchChooser(search(env.model)))
    episode = run_episode(env, planner, task="push", seed=0, keep_frames=False)
    assert episode.success
    tried = [d.chosen.variants[0] for d in episode.decisions if d.chosen]
    assert tried[0] == 0
    assert len(tried) > 1
    assert 0 not in tried[1:]


def test_a_skill_without_other_variants_is_tried_again():
    model = ToyModel()
    asked = problem(model, [pose(0.5, 0.1)], [pose(0.55, 0.0)])
    tried = dataclasses.replace(asked, given_up=frozenset({("regrasp", 0), ("pick_place", 0)}))
    assert [move.variant for move in tried.moves(["regrasp"], first=True)] == [0]
    assert [move.variant for move in tried.moves(["pick_place"], first=True)] == [1, 2, 3, 4]


def test_the_agent_without_an_object_head_searches_over_the_table():
    env = ToyEnv([pose(0.5, 0.1)], [pose(0.55, 0.0)], steps=40)
    blind = ToyModel(head=False)
    options = SkillOptions(skill_samples=200, skill_iterations=5, skills=["pick_place"])
    planner = agent(blind, SearchChooser(search(blind, options)), options)
    episode = run_episode(env, planner, task="push", seed=0, keep_frames=False)
    assert episode.success
    assert "x" in episode.decisions[0].chosen.params[0]


def test_the_agent_stops_at_its_budget():
    env = ToyEnv([pose(0.5, 0.1)], [pose(0.55, 0.0)], steps=7)
    planner = agent(env.model, SearchChooser(search(env.model)))
    assert len(run_episode(env, planner, task="push", seed=0).actions) <= 7


def test_geometry_places_by_decoded_positions_and_chooses_the_moved_object():
    now = [pose(0.45, 0.1), pose(0.55, -0.1)]
    env = ToyEnv(now, [now[0], pose(0.5, 0.0)], steps=30)
    episode = run_episode(env, agent(env.model, GeometryChooser()), task="push", seed=0)
    assert episode.success
    assert env.model.unrolled == 0
    assert episode.decisions[0].chosen.skills == ("pick_place",)


def test_a_model_that_predicts_no_change_stays_at_home():
    env = ToyEnv([pose(0.5, 0.1)], [pose(0.55, 0.0)])
    planner = agent(env.model, SearchChooser(search(CopyModel(env.model))))
    episode = run_episode(env, planner, task="push", seed=0)
    assert (episode.success, len(episode.actions)) == (False, 1)
    assert not np.any(episode.actions)
    assert [decision.why for decision in episode.decisions] == ["no better plan"]


def test_objects_are_paired_by_the_smallest_total_distance():
    def at(*places):
        return [Located(np.array([x, y, 0.02]), None) for x, y in places]

    assert pair_objects(at((0, 0), (1, 0)), at((0.9, 0), (0.1, 0))) == [(0, 1), (1, 0)]
    assert pair_objects(at((0, 0), (1, 0)), at((0.9, 0))) == [(1, 0)]
    assert pair_objects(at((0.9, 0)), at((0, 0), (1, 0))) == [(0, 1)]
    assert abs(wrap_half_turn(3.0) - (3.0 - np.pi)) < 1e-12
