"""Gradient descent (Adam) through the model, from several starts at once.

    g  = d(sum of energies) / d(samples)
    m1 = 0.9 m1 + 0.1 g,   m2 = 0.99 m2 + 0.01 g^2
    x  = clip(x - rate * m1_hat / sqrt(m2_hat)),   m_hat = m corrected for its start at 0

The rate decays linearly. Positions follow the gradient; the gripper component, which has no useful
gradient, is fixed for each start (keep, open, close in turn). The plan is the best sample seen.
Sources: Kingma and Ba, Adam (arXiv 1412.6980); Srinivas et al., UPN (arXiv 1804.00645).

Shapes: B starts, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from planning.errors import PlanError
from planning.ranges import between
from planning.solvers.search import Problem, Search, Solver

GRIPS = (0.0, -1.0, 1.0)
BETA_1, BETA_2 = 0.9, 0.99
"""Decay of Adam's first and second moment."""
FINAL_RATE = 0.05
"""Fraction of Adam's step size that remains in the last iteration."""


@dataclass(frozen=True, kw_only=True)
class Gradient(Solver):
    """Projected Adam; requires a differentiable cost.

    The search stops if no start moved farther than `min_spread_m` in an iteration.
    """

    num_samples: int = field(default=12, metadata=between(1, 1_000_000))
    """Number of starts, optimised in parallel."""
    iterations: int = field(default=20, metadata=between(1, 10_000))
    step: float = field(default=0.25, metadata=between(1e-6, 100))
    """Adam's step size in half widths of the box; decays linearly to a twentieth."""

    def start(self, problem: Problem) -> Search:
        """Return a new search."""
        return _GradientSearch(self, problem)


class _GradientSearch(Search):
    def __init__(self, settings: Gradient, problem: Problem) -> None:
        super().__init__(problem)
        self.settings = settings
        self.moved_m = problem.bounds.max_step_m

    def iterate(self) -> None:
        # Gradients are needed even if the caller disabled them.
        with torch.inference_mode(mode=False), torch.enable_grad():
            super().iterate()

    def _starts(self) -> Tensor:
        count = self.settings.num_samples
        noise_BK4 = torch.randn((count, *self.mean_K4.shape), generator=self.problem.generator)
        samples_BK4 = self.mean_K4 + self.std_K4 * noise_BK4
        samples_BK4[0] = self.mean_K4
        samples_BK4[..., 3] = torch.tensor(GRIPS).repeat(count)[:count, None]
        return self.problem.bounds.clip(samples_BK4)

    def propose(self) -> Tensor:
        if self.iteration == 1:
            self.samples_BK4 = self._starts()
            self.first, self.second = (torch.zeros_like(self.samples_BK4) for _ in range(2))
        else:  # step here, so that none is wasted after the last iteration
            self.samples_BK4 = self._stepped()
        return self.samples_BK4.requires_grad_()

    def evaluate(self, samples_BK4: Tensor) -> Tensor:
        self.energies_B = super().evaluate(samples_BK4)
        return self.energies_B

    def _stepped(self) -> Tensor:
        s, bounds, done = self.settings, self.problem.bounds, self.iteration - 1
        slope = _slope(self.energies_B, self.samples_BK4)
        self.first = BETA_1 * self.first + (1 - BETA_1) * slope
        self.second = BETA_2 * self.second + (1 - BETA_2) * slope.square()
        first, second = self.first / (1 - BETA_1**done), self.second / (1 - BETA_2**done)
        rate = s.step * bounds.max_step_m * (1 - (1 - FINAL_RATE) * done / s.iterations)
        old_BK4 = self.samples_BK4.detach()
        new_BK4 = old_BK4.clone()
        new_BK4[..., :3] -= rate * (first / (second.sqrt() + 1e-12))[..., :3]
        new_BK4 = bounds.clip(new_BK4)
        self.moved_m = float((new_BK4 - old_BK4)[..., :3].abs().max())
        return new_BK4

    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        self.offer_least(samples_BK4.detach(), energies_B)

    def spread_m(self) -> float:
        return self.moved_m


def _slope(energies_B: Tensor, samples_BK4: Tensor) -> Tensor:
    if not energies_B.requires_grad:
        raise PlanError(
            "No gradient reaches the actions: the cost was computed without one. Use "
            "optimiser=cem, icem or mppi with this model"
        )
    (slope_BK4,) = torch.autograd.grad(energies_B.sum(), samples_BK4)
    return slope_BK4
