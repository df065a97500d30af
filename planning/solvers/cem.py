"""The cross-entropy method as published for V-JEPA 2-AC.

Samples from a Gaussian, keeps the `num_elites` of least energy, moves mean and spread toward them
with a momentum (positions and gripper apart), again. Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.3.

Shapes: B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import EnergyError, PlanError

Cost = Callable[[Tensor], Tensor]


class Optimiser(Protocol):
    """Anything with CEM's `minimise`."""

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
        """Find actions of little cost; see `CEM.minimise`."""
        ...


def checked(energies_B: Tensor, iteration: int) -> Tensor:
    """Energies on the CPU.

    Raises:
        EnergyError: one is not finite; an arg-min over such numbers would mean nothing.
    """
    energies_B = energies_B.cpu()
    if not bool(torch.isfinite(energies_B).all()):
        raise EnergyError(
            f"An energy of iteration {iteration} is not finite: the model diverged. Check that "
            "state and actions are in the checkpoint's units (m, rad)"
        )
    return energies_B


def clamp_free(samples_BK4: Tensor, bounds: Bounds) -> Tensor:
    """Planned numbers clipped to the box, in place."""
    samples_BK4[..., :3].clamp_(-bounds.max_step_m, bounds.max_step_m)
    samples_BK4[..., 3].clamp_(-1.0, 1.0)
    return samples_BK4


def first_spread(bounds: Bounds, spread: float, horizon: int) -> Tensor:
    """Standard deviations [K, 4] to begin with."""
    return torch.tensor([spread * bounds.max_step_m] * 3 + [1.0]).repeat(horizon, 1)


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
        std = first_spread(bounds, spread, horizon)
        momentum = torch.tensor([self.momentum_position] * 3 + [self.momentum_gripper])
        best, best_energy, done = mean, float("inf"), 0
        for done in range(1, self.iterations + 1):
            noise = torch.randn(self.num_samples, horizon, 4, generator=generator)
            samples = mean + std * noise
            samples[0] = mean
            energies = checked(cost(bounds.full(clamp_free(samples, bounds))), done)
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
