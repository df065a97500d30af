"""Model predictive path integral: mean of all samples, weighted by energy.

    w_b  = softmax(-(e_b - min e) / (temperature * std(e)))
    mean = sum_b w_b x_b,   std = sqrt(sum_b w_b (x_b - mean)^2)

The plan is the best sample seen. Source: Williams et al., Information-theoretic MPC
(arXiv 1707.02342).

Shapes: B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from planning.ranges import between
from planning.solvers.search import Problem, Search, Solver, gaussian_samples

LEAST_STD = 1e-6
"""Added to standard deviations to keep them above 0."""


@dataclass(frozen=True, kw_only=True)
class MPPI(Solver):
    """Iterated softmax-weighted mean of samples."""

    num_samples: int = field(default=256, metadata=between(2, 1_000_000))
    temperature: float = field(default=0.1, metadata=between(1e-6, 1e6))
    """Temperature of the weights, in standard deviations of an iteration's energies."""

    def start(self, problem: Problem) -> Search:
        """Return a new search."""
        return _MPPISearch(self, problem)


class _MPPISearch(Search):
    def __init__(self, settings: MPPI, problem: Problem) -> None:
        super().__init__(problem)
        self.settings = settings

    def propose(self) -> Tensor:
        shape = (self.settings.num_samples, *self.mean_K4.shape)
        noise_BK4 = torch.randn(shape, generator=self.problem.generator)
        return gaussian_samples(self.mean_K4, self.std_K4, noise_BK4, self.problem.bounds)

    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        self.offer_least(samples_BK4, energies_B)
        scale = self.settings.temperature * energies_B.std().clamp(min=1e-12)
        weights_B11 = torch.softmax(-(energies_B - energies_B.min()) / scale, 0)[:, None, None]
        self.mean_K4 = (weights_B11 * samples_BK4).sum(0)
        variance_K4 = (weights_B11 * (samples_BK4 - self.mean_K4).square()).sum(0)
        self.std_K4 = variance_K4.sqrt() + LEAST_STD
