"""Both ways across stable-worldmodel (examples/stable_worldmodel_planner.py); needs the package."""

import importlib.util
from pathlib import Path

import gymnasium
import pytest
import torch

from planning.bounds import Bounds
from planning.solvers.cem import CEM
from worldmodel import load_world_model
from worldmodel.models.energy import token_distance

swm_policy = pytest.importorskip("stable_worldmodel.policy")
swm_solver = pytest.importorskip("stable_worldmodel.solver")
FILE = Path(__file__).parents[2] / "examples" / "stable_worldmodel_planner.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("stable_worldmodel_planner", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Moves:
    """Cost of the task TwoRoom without its wall: the distance of the end from the target."""

    def __init__(self, speed):
        self.speed = speed

    def get_cost(self, info_dict, action_candidates):
        state = info_dict["state"].float()
        end = state[..., :2] + self.speed * action_candidates.sum(2)
        return (end - state[..., 2:4]).norm(dim=-1)


def test_our_search_reaches_the_target_of_one_of_its_tasks(example):
    from stable_worldmodel.envs.two_room import TwoRoomEnv

    env = gymnasium.vector.SyncVectorEnv([TwoRoomEnv, TwoRoomEnv])
    seen, _ = env.reset(seed=1)
    for one in env.envs:  # in one room: the cost knows no wall
        one.unwrapped.agent_position = torch.tensor([40.0, 60.0])
        one.unwrapped.target_position = torch.tensor([80.0, 150.0])
    seen[:, :4] = torch.tensor([40.0, 60.0, 80.0, 150.0]).numpy()
    speed = float(env.envs[0].unwrapped.variation_space["agent"]["speed"].value.item())
    solver = example.SearchSolver(Moves(speed), CEM(num_samples=64, iterations=4, num_elites=8))
    config = swm_policy.PlanConfig(horizon=5, receding_horizon=2)
    policy = swm_policy.WorldModelPolicy(solver, config)
    policy.set_env(env)
    before = torch.as_tensor(seen[:, :2] - seen[:, 2:4]).norm(dim=1)
    for _ in range(40):
        action = policy.get_action({"state": seen})
        assert env.action_space.contains(action.astype("float32"))
        seen, _, terminated, _, _ = env.step(action)
        after = torch.as_tensor(seen[:, :2] - seen[:, 2:4]).norm(dim=1)
        if terminated.any() or (after < 15).all():
            break
    env.close()
    assert (after < 0.25 * before).all()


def test_its_search_on_our_model_sees_the_same_energies(example):
    world = load_world_model("default", "cpu")
    generator = torch.Generator().manual_seed(0)
    frames = torch.arange(60, 180, 30, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 128, 128, 3)
    z_END, goal_END = world.encode(frames).chunk(2)
    state_ES = torch.tensor([[0.5, 0.0, 0.3, 3.14, 0.0, -0.78, 0.0]]).repeat(2, 1)
    info = {"tokens": z_END, "state": state_ES, "goal_tokens": goal_END}
    model = example.WorldModelCost(world)
    asked = []
    plain = model.get_cost

    def watched(info_dict, candidates):
        costs = plain(info_dict, candidates)
        asked.append((candidates, costs))
        return costs

    model.get_cost = watched
    solver = swm_solver.CEMSolver(
        model, batch_size=2, num_samples=16, n_steps=2, topk=4, var_scale=0.02
    )
    box = gymnasium.spaces.Box(-0.075, 0.075, (2, 7))
    solver.configure(action_space=box, n_envs=2, config=swm_policy.PlanConfig(2, 1))
    found = solver(info)
    assert found["actions"].shape == (2, 2, 7)
    candidates, costs = asked[-1]
    for index, (actions_BKA, theirs) in enumerate(zip(candidates, costs, strict=True)):
        z, goal, state = (info[k][index][None] for k in ("tokens", "goal_tokens", "state"))
        energy = token_distance(world.unroll(z, state, actions_BKA)[:, -1], goal)
        assert torch.allclose(energy, theirs, atol=1e-6)

    def cost(actions_BKA):
        one = {k: v[:1, None].expand(-1, len(actions_BKA), *v.shape[1:]) for k, v in info.items()}
        return plain(one, actions_BKA[None])[0]

    plan = CEM(num_samples=16, iterations=2, num_elites=4).minimise(cost, Bounds(), generator)
    assert plan.energy <= float(cost(torch.zeros(1, 1, 7)))
