"""Cross-entropy method, as published for V-JEPA 2-AC.

Each iteration draws B plans from a Gaussian, keeps the E of lowest energy, and moves mean and
deviation toward them:

    x_b  = clip(mean + std * n_b),   n_b ~ N(0, 1),   x_0 = mean
    mean = m mean + (1 - m) mean(elites),   std = m std + (1 - m) std(elites)

The plan has the last mean's positions and the best sample's gripper commands.
Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.3.

Shapes: B samples, E elites, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from planning.ranges import between
from planning.solvers.search import EliteSolver, Problem, Search, elite_update, gaussian_samples


@dataclass(frozen=True, kw_only=True)
class CEM(EliteSolver):
    """Cross-entropy method with momentum."""

    num_samples: int = field(default=800, metadata=between(1, 1_000_000))
    iterations: int = field(default=10, metadata=between(1, 10_000))
    momentum_position: float = field(default=0.15, metadata=between(0, 1))
    """Momentum of mean and standard deviation for positions."""
    momentum_gripper: float = field(default=0.15, metadata=between(0, 1))
    """Momentum of mean and standard deviation for the gripper."""

    def start(self, problem: Problem) -> Search:
        """Return a new search."""
        return CEMSearch(self, problem)


class CEMSearch(Search):
    """A search by the cross-entropy method."""

    def __init__(self, settings: CEM, problem: Problem) -> None:
        super().__init__(problem)
        self.settings = settings
        self.momentum_4 = torch.tensor(
            [settings.momentum_position] * 3 + [settings.momentum_gripper]
        )

    def noise(self) -> Tensor:
        """Return standard normal noise [B, K, 4]."""
        shape = (self.settings.num_samples, *self.mean_K4.shape)
        return torch.randn(shape, generator=self.problem.generator)

    def propose(self) -> Tensor:
        """Return samples [B, K, 4] of the Gaussian, clipped to the box."""
        return gaussian_samples(self.mean_K4, self.std_K4, self.noise(), self.problem.bounds)

    def toward_elites(
        self, samples_BK4: Tensor, energies_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Apply `elite_update` to this search's Gaussian."""
        count, gaussian = self.settings.num_elites, (self.mean_K4, self.std_K4)
        return elite_update(samples_BK4, energies_B, count, *gaussian, self.momentum_4)

    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        """Move the Gaussian toward the elites and record the best sample."""
        found = self.toward_elites(samples_BK4, energies_B)
        least_E, elites_EK4, self.mean_K4, self.std_K4 = found
        self.offer(float(least_E[0]), elites_EK4[0])

    def chosen(self) -> Tensor:
        """Return the mean's positions with the best sample's gripper commands."""
        return torch.cat([self.mean_K4[:, :3], self.best_K4[:, 3:]], dim=-1)
