"""Planning that looks back: the last frame, the last plan."""

import pytest
import torch

from planning.apps.bench_contest import make_world
from planning.apps.policies import planner_config, samples_at_once
from planning.bounds import Bounds
from planning.errors import PlanError
from planning.planner import Memory, Observation, Planner, PlannerConfig
from planning.planner_options import PlannerOptions
from planning.solvers.cem import CEM
from planning.solvers.search import Plan
from worldmodel.models.world_model import normalise

STATE = torch.tensor([[0.45, 0.0, 0.2, 3.0, 0.0, 0.0, 0.0]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class PointWorld:
    """Tokens are the flange's place."""

    def unroll(self, z_BND, state_BS, actions_BKA):
        return (z_BND[:, 0, :3] + actions_BKA[..., :3].cumsum(1))[:, :, None]


class Watched:
    """A CEM that keeps what it is asked."""

    def __init__(self):
        self.asked = []

    def minimise_all(self, problems, **options) -> list[Plan]:
        self.asked += problems
        return CEM(num_samples=200).minimise_all(problems, **options)


def test_a_warm_start_goes_on_where_the_last_plan_was():
    watched = Watched()
    config = PlannerConfig(optimiser=watched, warm_start=True, approach_slope=0.0)
    planner = Planner(PointWorld(), config)
    start, goal = torch.tensor([[[0.45, 0.0, 0.2]]]), torch.tensor([[[0.45, 0.14, 0.2]]])
    plan, memory = planner.plan(Observation(start, STATE), goal)
    first = plan.actions_KA[0]
    assert all((problem.mean_K4 == 0).all() for problem in watched.asked)
    watched.asked.clear()
    moved = Observation(start + first[:3], STATE)
    second = planner.plan(moved, goal.clone(), memory)[0].actions_KA[0]
    want = torch.tensor([0.0, 0.14, 0.0]) - first[:3]
    torch.testing.assert_close(watched.asked[0].mean_K4[0, :3], want, atol=6e-3, rtol=0)
    assert watched.asked[0].spread == 0.5
    torch.testing.assert_close(second[:3], want, atol=4e-3, rtol=0)
    watched.asked.clear()
    planner.plan(Observation(start, STATE), goal + 0.01, memory)  # another goal
    planner.plan(Observation(start, STATE), goal)  # another episode
    assert all((problem.mean_K4 == 0).all() for problem in watched.asked)


def test_interleaved_episodes_do_not_disturb_each_other():
    planner = Planner(PointWorld(), PlannerConfig(warm_start=True))
    start, goal = torch.tensor([[[0.45, 0.0, 0.2]]]), torch.tensor([[[0.45, 0.14, 0.2]]])
    seen = Observation(start, STATE)

    def two_plans(disturb):
        plan, memory = planner.plan(seen, goal, Memory.start(3))
        if disturb:
            planner.plan(seen, goal, Memory.start(4))
        return torch.stack([plan.actions_KA[0], planner.plan(seen, goal, memory)[0].actions_KA[0]])

    assert torch.equal(two_plans(disturb=False), two_plans(disturb=True))


def test_the_earlier_call_gives_the_same_plan_or_says_the_new_one():
    start, goal = torch.tensor([[[0.45, 0.0, 0.2]]]), torch.tensor([[[0.45, 0.05, 0.2]]])
    planner = Planner(PointWorld())
    old = planner.plan(start, STATE, goal, seeded(5))
    new, _ = planner.plan(Observation(start, STATE), goal, Memory.start(5))
    assert torch.equal(old.actions_KA, new.actions_KA)
    with pytest.raises(TypeError, match="plan, memory = planner"):
        planner.plan(start, STATE, goal)
    with pytest.raises(TypeError, match="plan, memory = planner"):
        Planner(PointWorld(), PlannerConfig(history=2)).plan(start, STATE, goal, seeded())


def test_a_history_of_two_frames_reaches_the_model():
    world = make_world("small")
    z, goal = (normalise(torch.randn(1, 1, 256, generator=seeded(i))) for i in (1, 2))
    base = {"optimiser": CEM(num_samples=24, num_elites=4, iterations=2), "gate_m": 0, "stretch": 1}
    energies = {}
    for history in (1, 2):
        planner = Planner(world, PlannerConfig(**base, history=history))
        first, memory = planner.plan(Observation(z, STATE), goal)
        second, _ = planner.plan(Observation(z, STATE), goal, memory)
        energies[history] = [first.energy, second.energy]
    assert energies[1][0] == energies[2][0]
    assert energies[1][1] != energies[2][1]
    with pytest.raises(PlanError, match="1 to 2"):
        PlannerConfig(history=3)


def test_options_reach_the_planner():
    options = PlannerOptions(
        norm="l2", over="sum", history=2, warm_start=True, min_spread_m=0.002, deadline_s=0.5
    )
    config = planner_config(options)
    assert (config.norm, config.over, config.history, config.warm_start) == ("l2", "sum", 2, True)
    assert config.deadline_s == 0.5
    assert config.optimiser.min_spread_m == 0.002
    assert planner_config(PlannerOptions()).deadline_s is None


def test_chunks_follow_the_memory():
    world = make_world("medium")
    few = samples_at_once(world, PlannerOptions(memory_gb=0.1, stretch=1))
    assert 1 <= few < samples_at_once(world, PlannerOptions(memory_gb=1, stretch=1))
    assert samples_at_once(world, PlannerOptions(memory_gb=0.1, horizon=8)) < few
    assert samples_at_once(world, PlannerOptions(memory_gb=0)) == 1


def test_limits_are_kept_apart_by_start():
    free = torch.full((1, 1, 4), 0.07)
    high = {"low_m": (0.3, -0.3, 0.1), "high_m": (0.5, 0.3, 0.4)}
    for x, want in ((0.45, 0.05), (0.49, 0.01), (0.40, 0.07)):
        actions = Bounds(**high, start_m=(x, 0.0, 0.2)).full(free)
        assert float(actions[0, 0, 0]) == pytest.approx(want, abs=1e-6)
