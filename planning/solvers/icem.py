"""iCEM: the cross-entropy method with coloured noise, kept elites and a shrinking population.

Source: Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning
(arXiv 2008.06389). Shapes: B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import PlanError
from planning.solvers.cem import Cost, Plan, checked, clamp_free, first_spread


def coloured_noise(batch: int, horizon: int, beta: float, generator: torch.Generator) -> Tensor:
    """Unit-variance noise [B, K, 4] whose power falls as frequency^-beta along the horizon."""
    if horizon == 1 or beta == 0:
        return torch.randn(batch, horizon, 4, generator=generator)
    frequencies = torch.fft.rfftfreq(horizon)
    frequencies[0] = 1.0 / horizon
    scale = frequencies ** (-beta / 2)
    shape = (batch, 4, len(frequencies))
    parts = torch.complex(
        torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    )
    noise = torch.fft.irfft(parts * scale, n=horizon)
    # the expected spread, from the spectrum: a sample's own would remove its mean drift
    weight = torch.full((len(frequencies),), 4.0)
    weight[0] = 1.0
    if horizon % 2 == 0:
        weight[-1] = 1.0
    sigma = ((scale**2 * weight).sum() / horizon**2).sqrt()
    return noise.transpose(1, 2) / sigma


@dataclass(frozen=True, kw_only=True)
class ICEM:
    """Improved cross-entropy method; `minimise` is as CEM's."""

    num_samples: int = 64
    iterations: int = 3
    num_elites: int = 8
    momentum: float = 0.1
    noise_beta: float = 2.0
    """Colour of the noise: 0 white, larger smoother plans."""
    keep: float = 0.3
    """Share of the elites that stay in the next iteration's samples."""
    shrink: float = 1.25
    """The population is divided by this after each iteration, down to two elites' worth."""
    min_spread_m: float = 0.0
    """Stop when the elites' positions agree to this [m]; 0 never."""

    def __post_init__(self) -> None:
        if not 1 < self.num_elites <= self.num_samples:
            raise PlanError(
                f"num_elites {self.num_elites} must be above 1 and at most num_samples "
                f"{self.num_samples}"
            )
        if self.shrink < 1:
            raise PlanError(f"shrink is {self.shrink}; wanted 1 or more")

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
        kept, best, best_energy = mean[None], mean, float("inf")
        done, batch = 0, float(self.num_samples)
        for done in range(1, self.iterations + 1):
            size = max(int(batch), 2 * self.num_elites)
            noise = coloured_noise(size, horizon, self.noise_beta, generator)
            samples = clamp_free(torch.cat([mean + std * noise, kept, mean[None]]), bounds)
            energies = checked(cost(bounds.full(samples)), done)
            least, order = energies.topk(self.num_elites, largest=False)
            elites = samples[order]
            if float(least[0]) < best_energy:
                best_energy, best = float(least[0]), elites[0].clone()
            kept = elites[: max(1, int(self.keep * self.num_elites))]
            mean = self.momentum * mean + (1 - self.momentum) * elites.mean(0)
            std = self.momentum * std + (1 - self.momentum) * elites.std(0)
            batch /= self.shrink
            if deadline_s is not None and time.perf_counter() - began > deadline_s:
                break
            if float(std[..., :3].max()) < self.min_spread_m:
                break
        return Plan(bounds.full(best), best_energy, float(std[..., :3].max()), done)
