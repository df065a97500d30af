"""The cross-entropy method as published for V-JEPA 2-AC.

Samples from a Gaussian, keeps the `num_elites` of least energy, moves mean and spread toward them
with a momentum (positions and gripper apart), again. Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.3.

Shapes: B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import PlanError

Cost = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """The outcome of an optimiser."""

    actions_KA: Tensor
    """Best mean plan found, inside the bounds."""
    energy: float
    """Of the best sample."""
    spread_m: float
    """Largest standard deviation of a position among the last elites [m]."""
    iterations: int
    """Done; fewer than asked when a deadline or the spread ended it."""


@dataclass(frozen=True, kw_only=True)
class CEM:
    """Cross-entropy method; see `minimise`."""

    num_samples: int = 800
    iterations: int = 10
    num_elites: int = 10
    momentum_position: float = 0.15
    momentum_gripper: float = 0.15
    min_spread_m: float = 0.0
    """Stop when the elites' positions agree to this [m]; 0 never."""

    def __post_init__(self) -> None:
        if not 1 < self.num_elites <= self.num_samples:
            raise PlanError(
                f"num_elites {self.num_elites} must be above 1 and at most num_samples "
                f"{self.num_samples}"
            )

    def minimise(
        self, cost: Cost, bounds: Bounds, generator: torch.Generator, *, horizon: int = 1,
        start_K4: Tensor | None = None, spread: float = 1.0, deadline_s: float | None = None,
    ) -> Plan:  # fmt: skip
        """Find actions of little cost.

        Args:
            cost: actions [B, K, 7] -> energies [B].
            bounds: box and gripper rule; every sample obeys them.
            generator: the only source of chance.
            horizon: K.
            start_K4: mean to begin from (a warm start).
            spread: of the first samples, in half widths of the box.
            deadline_s: stop at the first iteration that ends after so many seconds.
        """
        began = time.perf_counter()
        mean = torch.zeros(horizon, 4) if start_K4 is None else start_K4.clone()
        std = torch.tensor([spread * bounds.max_step_m] * 3 + [1.0]).repeat(horizon, 1)
        momentum = torch.tensor([self.momentum_position] * 3 + [self.momentum_gripper])
        best, best_energy, done = mean, float("inf"), 0
        for done in range(1, self.iterations + 1):  # noqa: B007 - read after the loop
            noise = torch.randn(self.num_samples, horizon, 4, generator=generator)
            samples = mean + std * noise
            samples[0] = mean
            samples[..., :3] = samples[..., :3].clamp(-bounds.max_step_m, bounds.max_step_m)
            samples[..., 3] = samples[..., 3].clamp(-1.0, 1.0)
            energies = cost(bounds.full(samples)).cpu()
            least, order = energies.topk(self.num_elites, largest=False)
            elites = samples[order]
            if float(least[0]) < best_energy:
                best_energy, best = float(least[0]), elites[0]
            mean = momentum * mean + (1 - momentum) * elites.mean(0)
            std = momentum * std + (1 - momentum) * elites.std(0)
            if deadline_s is not None and time.perf_counter() - began > deadline_s:
                break
            if float(std[..., :3].max()) < self.min_spread_m:
                break
        chosen = torch.cat([mean[:, :3], best[:, 3:]], dim=-1)
        return Plan(bounds.full(chosen), best_energy, float(std[..., :3].max()), done)
