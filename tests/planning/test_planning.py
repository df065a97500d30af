"""Planners on problems whose answer is known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from planning.agent import PlanningAgent
from planning.baselines import make_baseline
from planning.bounds import Bounds
from planning.energy import energy, plan_energy
from planning.errors import EnergyError, PlanError
from planning.metrics import median_p95, wilson
from planning.planner import Observation, Planner, PlannerConfig
from planning.policy import Policy
from planning.rollout import evaluations_per_action, run_episode, seconds_per_action, time_shares
from planning.solvers.cem import CEM
from worldmodel.specs import ActionSpec, ObservationSpec

STILL = Observation(torch.zeros(1, 1, 8), torch.zeros(1, 7))


class LinearWorld:
    """A latent that is the fingertips' place: z = W p, moved by the action's position."""

    def __init__(self):
        self.matrix = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)) * 5

    observation_spec = ObservationSpec(image_size=(4, 4))
    action_spec = ActionSpec(gripper="command")

    def preprocess(self, frames):
        return frames

    def encode(self, frames):
        place = torch.as_tensor(frames).float()[:, 0, 0] / 255.0
        return (place @ self.matrix)[:, None]

    def unroll(self, z, state, actions):
        moves = actions[..., :3].cumsum(1) @ self.matrix
        return z[:, None] + moves[:, :, None]


def test_cem_finds_a_quadratics_optimum():
    wanted = torch.tensor([0.03, -0.05, 0.01])

    def cost(actions):
        return (actions[:, 0, :3] - wanted).square().sum(-1)

    plan = CEM(iterations=12).minimise(cost, Bounds(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(plan.actions_KA[0, :3], wanted, atol=5e-4, rtol=0)


def test_cem_is_deterministic_under_a_seed():
    def run(seed):
        def cost(actions):
            return actions[:, 0, 0]

        return CEM().minimise(cost, Bounds(), torch.Generator().manual_seed(seed)).actions_KA

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


@pytest.mark.parametrize("rule", ["ternary", "published"])
def test_a_million_samples_stay_inside_the_bounds(rule):
    seen = []

    def cost(actions):
        seen.append(len(actions))
        assert actions[..., :3].abs().max() <= 0.05
        assert (actions[..., 3:6] == 0).all()
        grip = actions[..., 6]
        assert grip.abs().max() <= 1
        if rule == "ternary":
            assert set(grip.unique().tolist()) <= {-1.0, 0.0, 1.0}
        else:
            assert not ((grip.abs() > 0) & (grip.abs() < 0.25)).any()
        return actions.sum((1, 2))

    bounds = Bounds(max_step_m=0.05, gripper=rule)
    cem = CEM(num_samples=100_000, iterations=10)
    plan = cem.minimise(cost, bounds, torch.Generator().manual_seed(0))
    assert sum(seen) == 1_000_000
    assert plan.actions_KA[..., :3].abs().max() <= 0.05


def test_cem_stops_when_its_elites_agree_or_time_is_up():
    def cost(actions):
        return actions[:, 0, :3].square().sum(-1)

    generator = torch.Generator().manual_seed(0)
    settled = CEM(iterations=50, min_spread_m=0.002).minimise(cost, Bounds(), generator)
    assert settled.iterations < 50
    hurried = CEM(iterations=50).minimise(cost, Bounds(), generator, deadline_s=0.0)
    assert hurried.iterations == 1


@pytest.mark.parametrize("horizon", [1, 2, 4])
def test_a_linear_world_is_solved(horizon):
    world = LinearWorld()
    config = PlannerConfig(
        optimiser=CEM(num_samples=400, iterations=20), horizon=horizon, gate_m=0.0
    )
    goal = torch.tensor([0.06, -0.04, 0.02]) @ world.matrix
    plan, _ = Planner(world, config).plan(STILL, goal[None, None])
    reached = plan.actions_KA[:, :3].sum(0)
    torch.testing.assert_close(reached, torch.tensor([0.06, -0.04, 0.02]), atol=5e-3, rtol=0)


def test_chunks_change_nothing():
    world = LinearWorld()
    actions = torch.randn(37, 2, 7) * 0.02
    z, state, goal = torch.zeros(1, 1, 8), torch.zeros(1, 7), torch.ones(1, 1, 8)
    costs = [
        Planner(world, PlannerConfig(chunk=chunk)).cost(z, state, goal, actions)
        for chunk in (5, 1000)
    ]
    torch.testing.assert_close(*costs)


def test_the_gate_keeps_the_gripper_until_the_move_is_small():
    world = LinearWorld()
    planner = Planner(world, PlannerConfig())
    far = (torch.tensor([0.07, 0.0, 0.0]) @ world.matrix)[None, None]
    plan, _ = planner.plan(STILL, far)
    assert plan.actions_KA[0, 6] == 0


def test_energies():
    z, goal = torch.tensor([[[1.0, -1.0]], [[0.0, 3.0]]]), torch.zeros(1, 1, 2)
    assert energy(z, goal).tolist() == [1.0, 1.5]
    assert energy(z, goal, "l2").tolist() == [1.0, 4.5]
    two = torch.stack([z, 2 * z], dim=1)
    assert plan_energy(two, goal).tolist() == [2.0, 3.0]
    assert plan_energy(two, goal, over="sum").tolist() == [1.5, 2.25]
    two[1, 1] = torch.nan
    with pytest.raises(EnergyError, match="step 2"):
        plan_energy(two, goal)
    with pytest.raises(PlanError, match="l1, l2"):
        energy(z, goal, "cosine")


def test_wrong_settings_say_what_is_allowed():
    with pytest.raises(PlanError, match="num_samples"):
        CEM(num_samples=5, num_elites=10)
    with pytest.raises(PlanError, match="1 to 16"):
        PlannerConfig(horizon=0)
    with pytest.raises(PlanError, match="above 0"):
        Bounds(max_step_m=0)
    with pytest.raises(PlanError, match="hold, random, pose_only"):
        make_baseline("expert")


def test_wilson_interval():
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    assert median_p95([]) == {"median": None, "p95": None}


@dataclass
class Goal:
    name: str
    image: np.ndarray
    state: np.ndarray
    steps: int = 6


class PointEnv:
    """A point whose place is the picture's colour."""

    def picture(self, place):
        return np.broadcast_to(np.uint8(np.clip(place, 0, 1) * 255), (4, 4, 3)).copy()

    def look(self):
        state = np.append(self.place, [0, 0, 0, 0]).astype(np.float32)
        info = {
            "success": bool(np.linalg.norm(self.place - self.goal) < 0.02),
            "tcp_m": self.place,
            "goal_tcp_m": self.goal,
            "holding": False,
        }
        return {"image": self.picture(self.place), "state": state}, info

    def reset(self, *, seed=None):
        rng = np.random.default_rng(seed)
        self.place, self.goal = rng.uniform(0.3, 0.7, 3), rng.uniform(0.3, 0.7, 3)
        return self.look()

    def step(self, action):
        self.place = self.place + action[:3]
        seen, info = self.look()
        return seen, 0.0, False, False, info

    def sub_goals(self, variant="default"):
        state = np.append(self.goal, [0, 0, 0, 0]).astype(np.float32)
        return [Goal("reached", self.picture(self.goal), state, 12)]


@pytest.fixture(scope="module")
def episodes():
    agent = PlanningAgent(Policy(LinearWorld()))
    return [run_episode(PointEnv(), agent, task="reach", seed=s) for s in range(6)]


def test_the_agent_reaches_goals_in_a_linear_world(episodes):
    assert sum(e.success for e in episodes) == 6
    assert all(len(e.energies) == len(e.actions) for e in episodes)
    assert all(e.energies[-1] < e.energies[0] for e in episodes)
    assert len(seconds_per_action(episodes)) == sum(len(e.actions) for e in episodes)
    assert sum(time_shares(episodes).values()) == pytest.approx(1.0)
    counts = evaluations_per_action(episodes)
    assert len(counts["calls"]) == len(seconds_per_action(episodes))
    assert all(n >= 150 * 4 for n in counts["frames"])  # at least one search


@pytest.mark.parametrize(("name", "wanted"), [("hold", 0), ("random", 0), ("pose_only", 6)])
def test_baselines(name, wanted):
    rows = [run_episode(PointEnv(), make_baseline(name), task="reach", seed=s) for s in range(6)]
    assert sum(e.success for e in rows) == wanted
    assert all(e.reason.startswith("fingertips ended") for e in rows if not e.success)


@pytest.mark.parametrize("name", ["random", "pose_only"])
def test_baselines_keep_the_limits_of_the_arm(name):
    env = PointEnv()
    episode = run_episode(env, make_baseline(name, 0.01), task="reach", seed=1)
    moves = np.abs(np.array(episode.actions)[:, :3])
    assert 0.009 < moves.max() <= 0.01 + 1e-7


def test_plans_stay_inside_the_workspace():
    bounds = Bounds(low_m=(0.4, -0.1, 0.12), high_m=(0.6, 0.1, 0.3), start_m=(0.45, 0.09, 0.13))
    free = torch.randn(10_000, 3, 4, generator=torch.Generator().manual_seed(0)) * 0.1
    actions = bounds.full(free)
    path = torch.tensor(bounds.start_m) + actions[..., :3].cumsum(-2)
    assert (path >= torch.tensor(bounds.low_m) - 1e-6).all()
    assert (path <= torch.tensor(bounds.high_m) + 1e-6).all()
    assert actions[..., :3].abs().max() <= bounds.max_step_m + 1e-7


class PointWorld:
    """Tokens are the flange's place."""

    def encode(self, frames):
        return frames

    def unroll(self, z_BND, state_BS, actions_BKA):
        return (z_BND[:, 0, :3] + actions_BKA[..., :3].cumsum(1))[:, :, None]


def aim(goal, start, **options):
    planner = Planner(PointWorld(), PlannerConfig(optimiser=CEM(num_samples=400), **options))
    state = torch.tensor([[*start, 0.0, 0.0, 0.0, 0.0]])
    plan, _ = planner.plan(Observation(torch.tensor([[start]]), state), torch.tensor([[goal]]))
    return plan.actions_KA[0, :3]


def test_a_goal_out_of_reach_is_approached_in_a_straight_line():
    start, goal = (0.45, 0.0, 0.16), (0.40, 0.06, 0.30)
    ratio = aim(goal, start, approach_slope=0.0) / torch.tensor([-0.05, 0.06, 0.14])
    assert ratio.min() > 0.8 * ratio.max()
    bent = aim(goal, start, stretch=1)
    assert torch.allclose(bent, torch.tensor([-0.05, 0.06, 0.075]), atol=0.004)


def test_the_way_down_is_over_the_goal_first():
    far = aim((0.45, 0.14, 0.10), (0.45, 0.0, 0.20))
    assert far[1] > 0.06
    assert far[2].abs() < 0.005
    over = aim((0.45, 0.0, 0.12), (0.45, 0.0, 0.18))
    assert over[2] < -0.055
    up = aim((0.45, 0.05, 0.18), (0.45, 0.0, 0.12))
    assert up[2] > 0.055
