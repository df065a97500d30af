"""Plans by an optimiser of the Nevergrad library (optional extra), e.g. CMA or DE.

Shapes: B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import PlanError
from planning.solvers.cem import Cost, Plan, checked


@dataclass(frozen=True, kw_only=True)
class Nevergrad:
    """Ask and tell in batches; `minimise` is as CEM's."""

    algorithm: str = "CMA"
    """A name in Nevergrad's registry."""
    num_samples: int = 64
    iterations: int = 6
    min_spread_m: float = 0.0
    """Stop when a batch's positions agree to this [m]; 0 never."""

    def _search(self, horizon: int, seed: int, start: Tensor, spread: float) -> Any:
        try:
            import nevergrad
        except ImportError as error:
            raise PlanError(
                "nevergrad is not installed: pip install 'worldmodel[nevergrad]', or use "
                "optimiser=cem"
            ) from error
        if self.algorithm not in nevergrad.optimizers.registry:
            raise PlanError(f"Nevergrad has no optimiser {self.algorithm!r}; try CMA, DE or PSO")
        space = nevergrad.p.Array(init=start.numpy().astype(float))
        space = space.set_mutation(sigma=0.5 * spread).set_bounds(-1.0, 1.0)
        space.random_state = np.random.RandomState(seed)
        return nevergrad.optimizers.registry[self.algorithm](
            parametrization=space,
            budget=self.num_samples * self.iterations,
            num_workers=self.num_samples,
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
        """Find actions of little cost; the best sample seen is the plan.

        Raises:
            PlanError: the library is missing, or does not know the algorithm.
        """
        began = time.perf_counter()
        unit = torch.tensor([bounds.max_step_m] * 3 + [1.0])
        start = torch.zeros(horizon, 4) if start_K4 is None else (start_K4 / unit).clamp(-1, 1)
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        best, best_energy, done, width = start * unit, float("inf"), 0, bounds.max_step_m
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's remarks on budgets and workers
            search = self._search(horizon, seed, start, spread)
            for done in range(1, self.iterations + 1):
                asked = [search.ask() for _ in range(self.num_samples)]
                points = np.stack([point.value for point in asked])
                samples = torch.from_numpy(points).float() * unit
                energies = checked(cost(bounds.full(samples)), done)
                for point, energy in zip(asked, energies.tolist(), strict=True):
                    search.tell(point, energy)
                least = int(energies.argmin())
                if float(energies[least]) < best_energy:
                    best_energy, best = float(energies[least]), samples[least]
                width = float(samples[..., :3].std(0).max())
                late = deadline_s is not None and time.perf_counter() - began > deadline_s
                if late or width < self.min_spread_m:
                    break
        return Plan(bounds.full(best), best_energy, width, done)
