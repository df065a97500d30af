"""Planning on two levels, with a model whose latent is a position on a line with a wall.

The goal is beyond what the actions of one macro-action reach, so that only a sub-goal leads there.
"""

import pytest
import torch

from planning.bounds import Bounds
from planning.errors import EnergyError, PlanError
from planning.hierarchy import Hierarchy, HierarchyConfig, allowed, without_pauses
from planning.planner import Memory, Observation, Planner, PlannerConfig

SPAN = 4


class Line:
    """Latent [B, 1, 3]: a position, which actions move; codes are the sums of moves, scaled."""

    span, max_steps = SPAN, 4

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        moves = 0.05 * torch.randn(200, 1, 3, generator=generator).clamp(-1, 1)
        sequences = torch.zeros(200, SPAN, 7)
        sequences[:, :, :3] = moves
        sequences[0] = 0
        self.sequences_QLA = sequences
        self.macro = self

    def encode_actions(self, actions_BLA):
        return actions_BLA[..., :3].sum(1) / 0.2

    def remember(self, frames, states, actions):
        return []


class Slow(Line):
    def unroll(self, z_BND, codes_BMC):
        return z_BND[:, None] + 0.2 * codes_BMC.cumsum(1)[:, :, None]


class Model(Line):
    def __init__(self):
        super().__init__()
        self.macro = Slow()

    def unroll(self, z_BND, state_BS, actions_BKA, past=None):
        return z_BND[:, None] + actions_BKA[..., :3].cumsum(1)[:, :, None]


CONFIG = HierarchyConfig(samples=64, iterations=4, macro_execute=3)
GOAL = torch.tensor([[[0.3, -0.2, 0.25]]])


def test_it_reaches_a_far_goal_in_few_looks():
    planner, memory = Planner(Model(), PlannerConfig(hierarchy=CONFIG)), Memory.start(0)
    z, looks = torch.zeros(1, 1, 3), 0
    for _ in range(15):
        plan, memory = planner.plan(Observation(z, torch.zeros(1, 7)), GOAL, memory)
        looks += plan.calls > 0
        z = z + plan.actions_KA[:1, :3]
        assert plan.actions_KA.abs().max() <= 0.075
    assert (z - GOAL).abs().max() < 0.03
    assert looks == 5
    assert memory.queue.executed == 15


def test_another_goal_drops_the_rest_of_the_plan():
    planner = Planner(Model(), PlannerConfig(hierarchy=CONFIG))
    seen = Observation(torch.zeros(1, 1, 3), torch.zeros(1, 7))
    _, memory = planner.plan(seen, GOAL, Memory.start(0))
    assert len(memory.queue.actions_KA) == 2
    plan, memory = planner.plan(seen, -GOAL, memory)
    assert plan.calls > 0
    assert memory.queue.executed == 1


def test_the_same_seed_gives_the_same_plan():
    seen = Observation(torch.zeros(1, 1, 3), torch.zeros(1, 7))
    plans = [
        Planner(Model(), PlannerConfig(hierarchy=CONFIG)).plan(seen, GOAL, Memory.start(3))[0]
        for _ in range(2)
    ]
    assert torch.equal(plans[0].actions_KA, plans[1].actions_KA)


def test_actions_stay_inside_the_limits_and_pauses_are_left_out():
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(50, SPAN, 7, generator=generator)
    bounds = Bounds(low_m=(-0.1, -0.1, 0.0), high_m=(0.1, 0.1, 0.2), start_m=(0.0, 0.0, 0.1))
    found = allowed(actions, bounds)
    path = torch.tensor([0.0, 0.0, 0.1]) + found[..., :3].cumsum(1)
    assert (path >= torch.tensor([-0.1, -0.1, 0.0]) - 1e-6).all()
    assert (path <= torch.tensor([0.1, 0.1, 0.2]) + 1e-6).all()
    assert set(found[..., 6].unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert found[..., 3:6].abs().max() <= 0.1501
    paused = torch.zeros(3, 7)
    paused[1, 0], paused[2, 6] = 0.05, 1.0
    assert torch.equal(without_pauses(paused), paused[1:])
    assert without_pauses(torch.zeros(3, 7)).shape == (1, 7)


def test_a_model_without_macro_actions_and_long_plans_are_rejected():
    model = Model()
    with pytest.raises(PlanError, match=r"macro_steps=9; allowed: 1 to 4"):
        Hierarchy(model, HierarchyConfig(macro_steps=9))
    model.macro = None
    with pytest.raises(PlanError, match="train mode=macro"):
        Hierarchy(model, CONFIG)


def test_an_energy_that_is_not_finite_is_an_error():
    planner = Planner(Model(), PlannerConfig(hierarchy=CONFIG))
    seen = Observation(torch.full((1, 1, 3), torch.nan), torch.zeros(1, 7))
    with pytest.raises(EnergyError):
        planner.plan(seen, GOAL, Memory.start(0))
