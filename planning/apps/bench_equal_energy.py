"""Benchmark our search against the published one at equal energy, on the embedded model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import envs
from envs.arm_env import ArmEnv
from planning.apps.bench_contest import whole_history
from planning.bench_options import BenchOptions
from planning.bounds import Bounds
from planning.device_clock import clock
from planning.energy import energy
from planning.solvers.cem import CEM
from planning.solvers.icem import ICEM
from planning.solvers.search import Cost, Solver
from worldmodel import load_world_model
from worldmodel.checkpoints.io import load_own
from worldmodel.checkpoints.loading import embedded_path
from worldmodel.models.world_model import WorldModel

BUDGETS = ((16, 4), (32, 4), (32, 6), (64, 6), (64, 10), (128, 10), (256, 12))
"""Samples and iterations to try, cheapest first."""


@dataclass(frozen=True, kw_only=True)
class EqualEnergy:
    """Budget that our search needs to reach the energy of the published one."""

    baseline_samples: int
    """Number of plans evaluated by the published search."""
    baseline_energy: float
    """Mean energy of the published search."""
    baseline_s: float
    """Mean time of the published search [s]."""
    icem_samples: int | None = None
    """Samples of our cheapest sufficient search; None if no budget was enough."""
    icem_iterations: int | None = None
    icem_energy: float | None = None
    icem_s: float | None = None
    ratio: float | None = None
    """Speed-up of our search."""


class Pair:
    """Costs of both implementations, from an episode's current frame to its last goal."""

    def __init__(self, world: WorldModel, plain: WorldModel, env: ArmEnv, seed: int) -> None:
        self.world, self.plain = world, plain
        seen, _ = env.reset(seed=seed)
        self.goal_1ND = world.encode(torch.from_numpy(env.sub_goals()[-1].image[None]))
        self.z_1ND = world.encode(torch.from_numpy(seen["image"][None]))
        self.state_1S = torch.from_numpy(seen["state"][None]).to(self.z_1ND.device)

    def ours(self, actions_BKA: Tensor) -> Tensor:
        """Return the energies [B] with cached keys and values."""
        actions_BKA = actions_BKA.to(self.z_1ND.device)
        found = self.world.unroll(self.z_1ND, self.state_1S, actions_BKA)
        return energy(found[:, -1], self.goal_1ND)

    def published(self, actions_BKA: Tensor) -> Tensor:
        """Return the energies [B] as computed by the published loop."""
        actions_BKA = actions_BKA.to(self.z_1ND.device)
        found = whole_history(self.plain, self.z_1ND, self.state_1S, actions_BKA)
        return energy(found[:, -1], self.goal_1ND)


def _mean(solver: Solver, costs: Sequence[Cost], device: str) -> tuple[float, float]:
    """Return the mean energy and time of a search over all pairs."""
    began = clock(device)
    plans = [solver.minimise(cost, Bounds(), torch.Generator().manual_seed(0)) for cost in costs]
    return statistics.mean(p.energy for p in plans), (clock(device) - began) / len(costs)


@torch.inference_mode()
def equal_energy(options: BenchOptions) -> EqualEnergy:
    """Find the cheapest iCEM search that reaches the energy of the published 800 x 10.

    The embedded model plans on image pairs of reach episodes. Energies are averaged over the pairs
    and count as equal if at most 0.1 % above.
    """
    device = options.device
    world = load_world_model("default", device, "float32")
    plain = load_own(embedded_path("default"))
    assert isinstance(plain, WorldModel)
    plain = plain.to(device).eval().requires_grad_(False)
    env = envs.make("reach")
    pairs = [Pair(world, plain, env, seed) for seed in range(options.pairs)]
    env.close()
    ours, published = [pair.ours for pair in pairs], [pair.published for pair in pairs]
    _mean(ICEM(), ours, device)  # warms up
    wanted, slow_s = _mean(CEM(), published, device)
    row = EqualEnergy(baseline_samples=8000, baseline_energy=wanted, baseline_s=slow_s)
    for samples, iterations in BUDGETS:
        solver = ICEM(num_samples=samples, iterations=iterations, num_elites=6)
        found, took_s = _mean(solver, ours, device)
        if found <= 1.001 * wanted:
            return replace(
                row,
                icem_samples=samples,
                icem_iterations=iterations,
                icem_energy=found,
                icem_s=took_s,
                ratio=slow_s / took_s,
            )
    return row
