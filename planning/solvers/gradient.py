"""Plans by Adam through the predictor, from several starts at once.

Positions follow the gradient of the imagined energy; the gripper's number, which has no useful
gradient, is fixed for each start (keep, open, close in turn). Source of the idea: UPN, Srinivas et
al. (arXiv 1804.00645). Shapes: B starts, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import PlanError
from planning.solvers.cem import Cost, Plan, checked, clamp_free, first_spread

GRIPS = (0.0, -1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Projected Adam; `minimise` is as CEM's, and the cost must be differentiable."""

    num_samples: int = 12
    """Starts that are improved side by side."""
    iterations: int = 20
    step: float = 0.25
    """Adam's step in half widths of the box; falls linearly to a twentieth."""
    min_spread_m: float = 0.0
    """Stop when no start moved further than this in an iteration [m]; 0 never."""

    def __post_init__(self) -> None:
        if self.num_samples < 1 or not self.step > 0:
            raise PlanError(
                f"num_samples {self.num_samples} must be 1 or more, step {self.step} above 0"
            )

    def _starts(
        self, bounds: Bounds, generator: torch.Generator, mean_K4: Tensor, spread: float
    ) -> Tensor:
        horizon = len(mean_K4)
        noise = torch.randn(self.num_samples, horizon, 4, generator=generator)
        samples = mean_K4 + first_spread(bounds, spread, horizon) * noise
        samples[0] = mean_K4
        grips = torch.tensor(GRIPS).repeat(self.num_samples)[: self.num_samples]
        samples[..., 3] = grips[:, None]
        return clamp_free(samples, bounds)

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
        """Find actions of little cost; the best point seen is the plan.

        Raises:
            PlanError: no gradient reaches the actions.
            EnergyError: an energy is not finite.
        """
        began = time.perf_counter()
        with torch.inference_mode(mode=False), torch.enable_grad():
            mean = torch.zeros(horizon, 4) if start_K4 is None else start_K4.clone()
            samples = self._starts(bounds, generator, mean, spread)
            first, second = torch.zeros_like(samples), torch.zeros_like(samples)
            best, best_energy, done, moved = samples[0], float("inf"), 0, float("inf")
            for done in range(1, self.iterations + 1):
                samples.requires_grad_()
                energies = cost(bounds.full(samples))
                found = checked(energies.detach(), done)
                least = int(found.argmin())
                if float(found[least]) < best_energy:
                    best_energy, best = float(found[least]), samples[least].detach().clone()
                late = deadline_s is not None and time.perf_counter() - began > deadline_s
                if late or moved < self.min_spread_m or done == self.iterations:
                    break
                slope = _slope(energies, samples)
                first = 0.9 * first + 0.1 * slope
                second = 0.99 * second + 0.01 * slope.square()
                unit = (first / (1 - 0.9**done)) / ((second / (1 - 0.99**done)).sqrt() + 1e-12)
                rate = self.step * bounds.max_step_m * (1 - 0.95 * done / self.iterations)
                new = samples.detach().clone()
                new[..., :3] -= rate * unit[..., :3]
                new = clamp_free(new, bounds)
                moved = float((new - samples.detach())[..., :3].abs().max())
                samples = new
        spread_m = moved if moved < float("inf") else bounds.max_step_m
        return Plan(bounds.full(best), best_energy, spread_m, done)


def _slope(energies_B: Tensor, samples_BK4: Tensor) -> Tensor:
    if not energies_B.requires_grad:
        raise PlanError(
            "No gradient reaches the actions: the cost was computed without one. Use "
            "optimiser=cem, icem or mppi with this model"
        )
    (slope,) = torch.autograd.grad(energies_B.sum(), samples_BK4)
    return slope
