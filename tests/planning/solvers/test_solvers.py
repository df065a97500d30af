import json
import sys

import pytest
import torch

from planning.apps.bench_contest import make_world
from planning.bounds import Bounds
from planning.cli.app import main
from planning.errors import EnergyError, PlanError
from planning.planner import Observation, Planner, PlannerConfig
from planning.solvers.cem import CEM
from planning.solvers.gradient import Gradient
from planning.solvers.icem import ICEM, coloured_noise
from planning.solvers.mppi import MPPI
from planning.solvers.nevergrad import Nevergrad
from planning.solvers.registry import NAMES, make_optimiser
from worldmodel.models.world_model import normalise

ALL = [
    CEM(num_samples=300),
    ICEM(num_samples=200, iterations=10),
    MPPI(iterations=12),
    Gradient(iterations=60),
    Nevergrad(num_samples=60, iterations=12),
]
GOAL = torch.tensor([0.03, -0.06, 0.01])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("optimiser", ALL)
def test_the_optimum_of_a_quadratic(optimiser):
    def cost(actions):
        return (actions[:, 0, :3] - GOAL).square().sum(-1)

    plan = optimiser.minimise(cost, Bounds(), seeded())
    assert torch.allclose(plan.actions_KA[0, :3], GOAL, atol=0.004)


@pytest.mark.parametrize("optimiser", ALL)
def test_the_goal_of_a_linear_latent_world(optimiser):
    mix = torch.randn(3, 16, generator=seeded(3))
    goal = torch.tensor([0.1, -0.09, 0.06])

    def cost(actions):
        return ((actions[..., :3].sum(1) - goal) @ mix).abs().mean(-1)

    plan = optimiser.minimise(cost, Bounds(), seeded(), horizon=2)
    assert torch.allclose(plan.actions_KA[:, :3].sum(0), goal, atol=0.01)


@pytest.mark.parametrize("optimiser", ALL)
def test_same_seed_same_plan(optimiser):
    def cost(actions):
        return (actions[:, 0, :3] - GOAL).square().sum(-1)

    first, second = (optimiser.minimise(cost, Bounds(), seeded(4)).actions_KA for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "optimiser",
    [
        CEM(num_samples=170_000, iterations=2),
        ICEM(num_samples=170_000, iterations=2),
        MPPI(num_samples=170_000, iterations=2),
        Gradient(num_samples=170_000, iterations=2),
    ],
)
def test_a_million_samples_stay_inside_the_bounds(optimiser):
    bounds = Bounds(max_step_m=0.05, gripper="published")
    seen = 0

    def cost(actions):
        nonlocal seen
        seen += len(actions)
        assert actions[..., :3].abs().max() <= 0.05
        assert actions[..., 6].abs().max() <= 1
        small = actions[..., 6].abs()
        assert ((small == 0) | (small >= 0.25)).all()
        return actions[..., :3].sum((1, 2))

    plan = optimiser.minimise(cost, bounds, seeded(), horizon=2)
    assert seen > 300_000  # four optimisers: over a million in all
    assert plan.actions_KA[..., :3].abs().max() <= 0.05


@pytest.mark.parametrize("optimiser", ALL)
def test_an_energy_that_is_no_number_is_an_error_with_its_iteration(optimiser):
    with pytest.raises(EnergyError, match="iteration 1"):
        optimiser.minimise(lambda a: a.sum((1, 2)) * torch.nan, Bounds(), seeded())


@pytest.mark.parametrize("optimiser", ALL)
def test_a_deadline_gives_the_best_so_far(optimiser):
    plan = optimiser.minimise(
        lambda a: a[:, 0, :3].square().sum(-1), Bounds(), seeded(), deadline_s=0.0
    )
    assert plan.iterations == 1


def test_wrong_shapes_are_refused_at_the_border():
    with pytest.raises(PlanError, match=r"300 plans has shape \(300, 2\)"):
        ALL[0].minimise(lambda a: a[:, 0, :2], Bounds(), seeded())
    with pytest.raises(PlanError, match=r"start_K4 has shape \(1, 4\).*horizon=2"):
        ALL[0].minimise(
            lambda a: a.sum((1, 2)), Bounds(), seeded(), horizon=2, start_K4=torch.zeros(1, 4)
        )


def test_settings_without_samples_or_iterations_are_refused():
    for wrong in ({"iterations": 0}, {"num_samples": 0}):
        with pytest.raises(PlanError, match="is out of range"):
            MPPI(**wrong)


def test_coloured_noise_has_unit_spread_and_is_smooth():
    noise = coloured_noise(20_000, 8, 2.0, seeded())
    assert abs(float(noise.std()) - 1) < 0.05
    white = torch.randn(20_000, 8, 4, generator=seeded())
    assert noise.diff(dim=1).std() < 0.7 * white.diff(dim=1).std()


def test_names():
    for name in NAMES:
        make_optimiser(name, samples=32, iterations=2, elites=4)
    with pytest.raises(PlanError, match="cem, icem, mppi, gradient, nevergrad"):
        make_optimiser("adam", samples=32, iterations=2, elites=4)


def test_gradients_pass_the_planner_and_the_model():
    world = make_world("small")
    z, goal = (normalise(torch.randn(1, 1, 256, generator=seeded(i))) for i in (1, 2))
    state = torch.tensor([[0.5, 0.0, 0.3, 3.0, 0.0, 0.0, 0.0]])
    config = PlannerConfig(optimiser=Gradient(iterations=8), gate_m=0, stretch=1)
    with torch.inference_mode():  # whoever calls, the search turns gradients on for itself
        plan = Planner(world, config).plan(Observation(z, state), goal)[0]
    stay = Planner(world, config).cost(z, state, goal, torch.zeros(1, 1, 7))
    assert plan.energy <= float(stay[0])


def test_gradient_and_nevergrad_say_what_is_wrong(monkeypatch):
    with pytest.raises(PlanError, match="cem, icem or mppi"):
        Gradient().minimise(lambda a: a.detach().sum((1, 2)), Bounds(), seeded())
    with pytest.raises(PlanError, match="CMA, DE"):
        Nevergrad(algorithm="none").minimise(lambda a: a.sum((1, 2)), Bounds(), seeded())
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(PlanError, match="pip install"):
        Nevergrad().minimise(lambda a: a.sum((1, 2)), Bounds(), seeded())


def test_bench_planning_writes_its_rows(tmp_path):
    words = ["bench", "planning", "sizes=[small]", "horizons=[2]", "samples=16", "repeats=1"]
    words.append("pairs=1")
    assert main([*words, f"out={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    for row in summary["rows"]:
        assert row["max_abs_diff"] < 1e-4
        assert row["ratio_exact"] > 0
    same = summary["equal_energy"]
    assert same["icem_energy"] <= 1.001 * same["baseline_energy"]
    assert (tmp_path / "planning.png").is_file()
