"""CEM on the model's device gives CEM's plans; with CUDA, a captured iteration does too."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from planning.apps.attention_backends import choose_backend
from planning.apps.bench_contest import make_world
from planning.bounds import Bounds
from planning.errors import EnergyError, PlanError
from planning.planner import Memory, Observation, Planner, PlannerConfig
from planning.solvers import replay
from planning.solvers.cem import CEM
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.registry import make_optimiser
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.errors import ConfigError
from worldmodel.models.attention import attend
from worldmodel.models.world_model import normalise

BOUNDS = Bounds(low_m=(0.3, -0.3, 0.1), high_m=(0.6, 0.3, 0.4), start_m=(0.45, 0.0, 0.13))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cost(actions):
    goal = torch.tensor([0.03, -0.06, 0.01], device=actions.device)
    return (actions[..., :3].sum(1) - goal).square().sum(-1) + 0.01 * actions[..., 6].abs().sum(1)


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_same_plan_as_cem(horizon):
    both = {"num_samples": 120, "iterations": 6, "num_elites": 9}
    want = CEM(**both).minimise(cost, BOUNDS, seeded(), horizon=horizon)
    found = DeviceCEM(**both, device="cpu").minimise(cost, BOUNDS, seeded(), horizon=horizon)
    torch.testing.assert_close(found.actions_KA, want.actions_KA, atol=1e-6, rtol=0)
    assert found.energy == pytest.approx(want.energy, abs=1e-7)
    assert found.iterations == want.iterations == 6


def test_spread_and_deadline_end_it():
    wide = DeviceCEM(iterations=50, device="cpu", min_spread_m=0.002)
    assert wide.minimise(cost, BOUNDS, seeded()).iterations < 50
    hurried = DeviceCEM(iterations=50, device="cpu")
    assert hurried.minimise(cost, BOUNDS, seeded(), deadline_s=0.0).iterations == 1


def test_a_bad_energy_is_named_by_its_first_iteration():
    calls = []

    def breaks(actions):
        calls.append(len(actions))
        return cost(actions) * (torch.nan if len(calls) >= 3 else 1.0)

    with pytest.raises(EnergyError, match="iteration 3"):
        DeviceCEM(iterations=5, device="cpu").minimise(breaks, BOUNDS, seeded())


def test_cuda_models_get_it_and_a_cpu_is_told():
    made = make_optimiser("cem", samples=32, iterations=2, elites=4, device="cuda")
    assert isinstance(made, DeviceCEM)
    with pytest.raises(ConfigError, match="auto"):
        choose_backend(make_world("small"), (2, 4, 3, 64), torch.bfloat16)
    with pytest.raises(ConfigError, match="sdpa"):
        attend(*torch.randn(3, 1, 1, 4, 8).unbind(0), None, "cudnn")


@pytest.fixture
def replaying(monkeypatch):
    """Without a device, let a replay run the kept search's step again on the kept tensors."""
    monkeypatch.setattr(replay, "can_capture", lambda _: True)
    monkeypatch.setattr(replay, "on_side_stream", lambda step: step())
    monkeypatch.setattr(replay, "captured", lambda step: step)


class Places:
    """Tokens are the position and the gripper."""

    def unroll(self, z_BND, state_BS, actions_BKA):
        moves_BK4 = actions_BKA[..., [0, 1, 2, 6]]
        return (z_BND[:, 0] + moves_BK4.cumsum(1))[:, :, None]


REACHES = (
    # goal (x [m], gripper), calls of one search after another, in one batch
    (0.01, 0.0, 24, 12),  # near: the first search and the gripper's
    (0.05, 0.0, 13, 13),  # one step, and whether the gripper helps before it
    (0.05, 0.8, 25, 13),  # it does
    (0.12, 0.0, 25, 13),  # two steps
    (0.2, 0.0, 37, 13),  # three
    (0.2, 0.8, 49, 25),  # after three, the gripper's search draws other numbers: run by itself
)


@torch.no_grad()
@pytest.mark.parametrize("captures", [False, True])
def test_searches_in_one_batch_give_the_plans_of_one_after_another(captures, request):
    if captures:
        request.getfixturevalue("replaying")
    both = {"num_samples": 40, "iterations": 12, "num_elites": 5}
    solver = DeviceCEM(**both, device="cpu")
    configs = PlannerConfig(optimiser=CEM(**both)), PlannerConfig(optimiser=solver, together=True)
    planners = [Planner(Places(), config, BOUNDS) for config in configs]
    memories = [Memory.start(), Memory.start()]
    for x, gripper, calls_alone, calls_together in REACHES:
        seen = Observation(torch.zeros(1, 1, 4), torch.zeros(1, 7), (0.45, 0.0, 0.13))
        goal_1ND = torch.tensor([[[x, 0.0, 0.0, gripper]]])
        plans = []
        for index, planner in enumerate(planners):
            plan, memories[index] = planner.plan(seen, goal_1ND, memories[index])
            plans.append(plan)
        want, found = plans
        torch.testing.assert_close(found.actions_KA, want.actions_KA, atol=1e-5, rtol=0)
        assert found.energy == pytest.approx(want.energy, abs=1e-6)
        assert (want.calls, found.calls) == (calls_alone, calls_together), (x, gripper)
        states = [memory.generator.get_state() for memory in memories]
        assert torch.equal(*states), (x, gripper)
    assert len(solver.kept) == 2 * captures  # the batch, and the gripper's search by itself


@torch.no_grad()
def test_the_embedded_model_plans_the_same_in_one_batch():
    """Between two pictures, from both ends, in two steps each."""
    pictures = Path(__file__).parents[3] / "examples" / "pictures"
    images = [np.asarray(Image.open(pictures / name)) for name in ("now.png", "goal.png")]
    world = load_world_model("default", "cpu")
    z_2ND = world.encode(world.preprocess(torch.from_numpy(np.stack(images))))
    both = {"num_samples": 48, "iterations": 3, "num_elites": 6}
    solver = DeviceCEM(**both, device="cpu")
    configs = PlannerConfig(optimiser=CEM(**both)), PlannerConfig(optimiser=solver, together=True)
    planners = [Planner(world, config, BOUNDS) for config in configs]
    state_1S = torch.tensor([[0.45, 0.0, 0.3, 3.1, 0.0, -0.8, 0.0]])
    for start in (0, 1):
        memories = [Memory.start(start), Memory.start(start)]
        for _step in range(2):
            plans = []
            for index, planner in enumerate(planners):
                seen, goal_1ND = Observation(z_2ND[[start]], state_1S), z_2ND[[1 - start]]
                plan, memories[index] = planner.plan(seen, goal_1ND, memories[index])
                plans.append(plan)
            want, found = plans
            torch.testing.assert_close(found.actions_KA, want.actions_KA, atol=1e-5, rtol=0)
            assert found.calls <= want.calls, (found.calls, want.calls)
            assert torch.equal(*(memory.generator.get_state() for memory in memories))


def test_one_batch_needs_a_search_that_can():
    with pytest.raises(PlanError, match="it is CEM"):
        PlannerConfig(together=True)


@torch.no_grad()
def test_a_kept_graph_gives_the_plans_of_other_observations(replaying):
    world = make_world("small")
    both = {"num_samples": 24, "iterations": 3, "num_elites": 4}
    kept, plain = DeviceCEM(**both, device="cpu"), CEM(**both)
    bounds = Bounds(low_m=(0.3, -0.3, 0.1), high_m=(0.6, 0.3, 0.4))

    def plan(optimiser, index):
        z, goal = (
            normalise(torch.randn(1, 1, 256, generator=seeded(2 * index + i))) for i in (0, 1)
        )
        state = torch.tensor([[0.35 + 0.05 * index, 0.0, 0.2, 3.0, 0.0, 0.0, 0.0]])
        config = PlannerConfig(optimiser=optimiser, gate_m=0, stretch=1)
        return Planner(world, config, bounds).plan(Observation(z, state), goal)[0]

    for index in range(4):
        found, want = plan(kept, index), plan(plain, index)
        torch.testing.assert_close(found.actions_KA, want.actions_KA, atol=1e-5, rtol=0)
        assert found.energy == pytest.approx(want.energy, abs=1e-6)
        assert (found.calls, found.frames) == (want.calls, want.frames)
    assert len(kept.kept) == 2  # with and without the gripper
    norm = world.predictor.predictor_norm
    norm.weight = torch.nn.Parameter(2 * norm.weight, requires_grad=False)
    torch.testing.assert_close(plan(kept, 0).actions_KA, plan(plain, 0).actions_KA)
    assert len(kept.kept) == 4  # weights that lie elsewhere are another kind


@pytest.mark.gpu
@torch.no_grad()
def test_a_captured_iteration_gives_the_eager_plan():
    world = make_world("small").cuda()
    z, goal = (normalise(torch.randn(1, 1, 256, generator=seeded(i))).cuda() for i in (1, 2))
    state = torch.tensor([[0.45, 0.0, 0.2, 3.0, 0.0, 0.0, 0.0]], device="cuda")
    both = {"num_samples": 64, "iterations": 5, "num_elites": 6}

    def plan(optimiser):
        planner = Planner(world, PlannerConfig(optimiser=optimiser, gate_m=0, stretch=1))
        return planner.plan(Observation(z, state), goal)[0]

    kept = DeviceCEM(**both)
    eager, captured = plan(DeviceCEM(**both, graph=False)), plan(kept)
    torch.testing.assert_close(plan(kept).actions_KA, eager.actions_KA, atol=1e-4, rtol=0)
    torch.testing.assert_close(captured.actions_KA, eager.actions_KA, atol=1e-4, rtol=0)
    torch.testing.assert_close(plan(CEM(**both)).actions_KA, eager.actions_KA, atol=1e-3, rtol=0)


@pytest.mark.gpu
def test_the_measured_attention_is_set():
    world = make_world("small").cuda().bfloat16()
    took = choose_backend(world, (8, 4, 66, 64), torch.bfloat16)
    assert list(took.values()) == sorted(took.values())
    assert world.predictor.predictor_blocks[0].attn.backend == next(iter(took))
