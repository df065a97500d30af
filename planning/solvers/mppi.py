"""Model-predictive path integral: every sample counts, weighted by how little it costs.

Source: Williams et al., Information-theoretic MPC (arXiv 1707.02342). Shapes: B samples, K horizon,
4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import PlanError
from planning.solvers.cem import Cost, Plan, checked, clamp_free, first_spread


@dataclass(frozen=True, kw_only=True)
class MPPI:
    """Softmax-weighted mean of samples, again and again; `minimise` is as CEM's."""

    num_samples: int = 256
    iterations: int = 6
    temperature: float = 0.1
    """Of the weights, in standard deviations of an iteration's energies."""
    min_spread_m: float = 0.0
    """Stop when the weighted positions agree to this [m]; 0 never."""

    def __post_init__(self) -> None:
        if self.num_samples < 2 or not self.temperature > 0:
            raise PlanError(
                f"num_samples {self.num_samples} must be 2 or more, temperature "
                f"{self.temperature} above 0"
            )

    def minimise(
        self,
        cost: Cost,
        bounds: Bounds,
        generator: torch.Generator,
        *,
        horizon: int = 1,
        start_K4: Tensor | None = None,
        spread: float = 1.0,
        deadline_s: float | None = None,
    ) -> Plan:
        """Find actions of little cost; the best sample seen is the plan."""
        began = time.perf_counter()
        mean = torch.zeros(horizon, 4) if start_K4 is None else start_K4.clone()
        std = first_spread(bounds, spread, horizon)
        best, best_energy, done = mean, float("inf"), 0
        for done in range(1, self.iterations + 1):
            noise = torch.randn(self.num_samples, horizon, 4, generator=generator)
            samples = mean + std * noise
            samples[0] = mean
            samples = clamp_free(samples, bounds)
            energies = checked(cost(bounds.full(samples)), done)
            least = int(energies.argmin())
            if float(energies[least]) < best_energy:
                best_energy, best = float(energies[least]), samples[least].clone()
            scale = self.temperature * energies.std().clamp(min=1e-12)
            weights = torch.softmax(-(energies - energies.min()) / scale, 0)[:, None, None]
            mean = (weights * samples).sum(0)
            std = (weights * (samples - mean).square()).sum(0).sqrt() + 1e-6
            if deadline_s is not None and time.perf_counter() - began > deadline_s:
                break
            if float(std[..., :3].max()) < self.min_spread_m:
                break
        return Plan(bounds.full(best), best_energy, float(std[..., :3].max()), done)
