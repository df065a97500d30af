"""iCEM: cross-entropy method with coloured noise, kept elites and a shrinking population.

    B_i     = max(B / shrink^(i-1), 2 E)                     samples of iteration i
    samples = clip(mean + std * n),  n with power ~ f^-beta  + kept elites + mean
    mean    = m mean + (1 - m) mean(elites),   std = m std + (1 - m) std(elites)

The plan is the best sample seen. Source: Pinneri et al., Sample-efficient Cross-Entropy Method for
Real-time Planning (arXiv 2008.06389).

Shapes: B samples, E elites, K horizon, F frequencies, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from planning.ranges import between
from planning.solvers.search import EliteSolver, Problem, Search, elite_update


def coloured_noise(batch: int, horizon: int, beta: float, generator: torch.Generator) -> Tensor:
    """Return unit-variance noise [B, K, 4] with power ~ frequency^-beta along the horizon."""
    if horizon == 1 or beta == 0:
        return torch.randn(batch, horizon, 4, generator=generator)
    frequencies_F = torch.fft.rfftfreq(horizon)
    frequencies_F[0] = 1.0 / horizon
    scale_F = frequencies_F ** (-beta / 2)
    shape = (batch, 4, len(frequencies_F))
    parts = torch.complex(
        torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    )
    noise_B4K = torch.fft.irfft(parts * scale_F, n=horizon)
    # Normalise by the spectrum's expected deviation; the sample's own would remove its mean drift.
    weight_F = torch.full((len(frequencies_F),), 4.0)
    weight_F[0] = 1.0
    if horizon % 2 == 0:
        weight_F[-1] = 1.0
    sigma = ((scale_F**2 * weight_F).sum() / horizon**2).sqrt()
    return noise_B4K.transpose(1, 2) / sigma


@dataclass(frozen=True, kw_only=True)
class ICEM(EliteSolver):
    """Improved cross-entropy method."""

    iterations: int = field(default=3, metadata=between(1, 10_000))
    num_elites: int = field(default=8, metadata=between(2, 1_000_000))
    momentum: float = field(default=0.1, metadata=between(0, 1))
    """Momentum of mean and standard deviation."""
    noise_beta: float = field(default=2.0, metadata=between(0, 10))
    """Exponent of the noise spectrum; 0 is white, larger values give smoother plans."""
    keep: float = field(default=0.3, metadata=between(0, 1))
    """Fraction of the elites added to the next iteration's samples."""
    shrink: float = field(default=1.25, metadata=between(1, 1000))
    """Divisor of the population after each iteration; it stays at least twice the number of
    elites."""

    def start(self, problem: Problem) -> Search:
        """Return a new search."""
        return _ICEMSearch(self, problem)


class _ICEMSearch(Search):
    def __init__(self, settings: ICEM, problem: Problem) -> None:
        super().__init__(problem)
        self.settings, self.kept_EK4 = settings, self.mean_K4[None]
        self.batch = float(settings.num_samples)

    def propose(self) -> Tensor:
        s = self.settings
        size = max(int(self.batch), 2 * s.num_elites)
        noise = coloured_noise(size, len(self.mean_K4), s.noise_beta, self.problem.generator)
        drawn_BK4 = self.mean_K4 + self.std_K4 * noise
        samples_BK4 = torch.cat([drawn_BK4, self.kept_EK4, self.mean_K4[None]])
        return self.problem.bounds.clip(samples_BK4)

    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        s = self.settings
        least_E, elites_EK4, self.mean_K4, self.std_K4 = elite_update(
            samples_BK4, energies_B, s.num_elites, self.mean_K4, self.std_K4, s.momentum
        )
        self.offer(float(least_E[0]), elites_EK4[0])
        self.kept_EK4 = elites_EK4[: max(1, int(s.keep * s.num_elites))]
        self.batch /= s.shrink
