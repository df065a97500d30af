"""Costs of plans: repeated actions, energies by step, and what the model is asked."""

import pytest
import torch

from planning.bounds import Bounds
from planning.energy import plan_energy, step_energies
from planning.plan_cost import PlanCost
from planning.planner import Observation, Planner, PlannerConfig
from planning.solvers.cem import CEM

LIMIT_M = 0.075


class Places:
    """Tokens are the flange's place; the gripper adds to a fourth number."""

    def __init__(self):
        self.calls = self.frames = 0

    def unroll(self, z_BND, state_BS, actions_BKA):
        self.calls += 1
        self.frames += actions_BKA.shape[0] * actions_BKA.shape[1]
        return (z_BND[:, 0] + actions_BKA[..., [0, 1, 2, 6]].cumsum(1))[:, :, None]


def cost_of(world, goal, **options):
    return PlanCost(
        model=world,
        z_1ND=torch.zeros(1, 1, 4),
        state_1S=torch.zeros(1, 7),
        goal_1ND=torch.tensor(goal).view(1, 1, 4),
        **options,
    )


def test_a_repeated_action_costs_what_the_sequence_costs():
    actions = LIMIT_M * (2 * torch.rand(20, 1, 7) - 1)
    for over in ("final", "sum"):
        goal = [0.1, -0.1, 0.05, 0.0]
        tied = cost_of(Places(), goal, repeats=3, over=over, chunk=8)
        whole = cost_of(Places(), goal, over=over)
        torch.testing.assert_close(tied(actions), whole(actions.expand(-1, 3, -1)))
        assert (tied.tally.calls, tied.tally.frames) == (3, 60)


def test_energies_by_step_are_those_of_shorter_plans():
    z = torch.randn(5, 4, 2, 3)
    goal = torch.randn(1, 2, 3)
    for over in ("final", "sum"):
        found = step_energies(z, goal, "l2", over)
        for k in range(4):
            torch.testing.assert_close(found[:, k], plan_energy(z[:, : k + 1], goal, "l2", over))


def test_a_plan_counts_what_the_model_was_asked():
    world = Places()
    solver = CEM(num_samples=40, iterations=8, num_elites=5)
    planner = Planner(world, PlannerConfig(optimiser=solver, chunk=16), Bounds())
    seen = Observation(torch.zeros(1, 1, 4), torch.zeros(1, 7))
    plan, _ = planner.plan(seen, torch.tensor([[[0.2, 0.0, 0.0, 0.0]]]))
    assert (plan.calls, plan.frames) == (world.calls, world.frames)
    # searches of one, two and three steps, and the gripper before and after a move of three
    assert plan.frames == 8 * 40 * (1 + 2 + 3) + 4 * 4


class Grasp(Places):
    """Closing the gripper within 3 cm of x = 0.2 m grasps; farther away it does nothing."""

    def unroll(self, z_BND, state_BS, actions_BKA):
        z_BKND = super().unroll(z_BND, state_BS, actions_BKA)
        before_BK = z_BKND[..., 0, 0] - actions_BKA[..., 0]
        closes_BK = (actions_BKA[..., 6] > 0) & ((before_BK - 0.2).abs() < 0.03)
        z_BKND[..., 0, 3] = closes_BK.cumsum(1).clamp(max=1).float()
        return z_BKND


@pytest.mark.parametrize(("place", "acts"), [(0.19, True), (0.1, False)])
def test_the_gripper_acts_before_the_rest_of_the_move_where_that_helps(place, acts):
    planner = Planner(Grasp(), PlannerConfig(gate_m=0.001), Bounds())
    seen = Observation(torch.tensor([[[place, 0.0, 0.0, 0.0]]]), torch.zeros(1, 7))
    plan, _ = planner.plan(seen, torch.tensor([[[0.26, 0.0, 0.0, 1.0]]]))
    assert bool(plan.actions_KA[0, 6] > 0) == acts
