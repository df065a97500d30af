"""Optimisers of the Nevergrad library, such as CMA or DE. Requires the extra `nevergrad`.

The library proposes a batch and is told its energies (ask and tell). The plan is the best sample
seen. Source: Rapin and Teytaud, Nevergrad (https://github.com/facebookresearch/nevergrad).

Shapes: B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planning.errors import PlanError
from planning.solvers.search import Problem, Search, Solver


class _Point(Protocol):
    """A candidate proposed by the library."""

    value: NDArray[np.float64]


class _AskTell(Protocol):
    """An optimiser of the library."""

    def ask(self) -> _Point: ...
    def tell(self, candidate: _Point, loss: float) -> None: ...


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the library's warnings about budgets and workers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True, kw_only=True)
class Nevergrad(Solver):
    """Any optimiser of Nevergrad's registry, run in batches."""

    algorithm: str = "CMA"
    """Name in Nevergrad's registry."""

    def start(self, problem: Problem) -> Search:
        """Return a new search.

        Raises:
            PlanError: The library is not installed, or the algorithm is unknown to it.
        """
        return _NevergradSearch(self, problem)

    def make(self, start_K4: Tensor, seed: int, spread: float) -> _AskTell:
        """Create the library's optimiser over values in -1 .. 1."""
        try:
            import nevergrad
        except ImportError as error:
            raise PlanError(
                "nevergrad is not installed: pip install 'worldmodel[nevergrad]', or use "
                "optimiser=cem"
            ) from error
        if self.algorithm not in nevergrad.optimizers.registry:
            raise PlanError(f"Nevergrad has no optimiser {self.algorithm!r}; try CMA, DE or PSO")
        space = nevergrad.p.Array(init=start_K4.numpy().astype(float))
        space = space.set_mutation(sigma=0.5 * spread).set_bounds(-1.0, 1.0)
        space.random_state = np.random.RandomState(seed)
        made: _AskTell = nevergrad.optimizers.registry[self.algorithm](
            parametrization=space,
            budget=self.num_samples * self.iterations,
            num_workers=self.num_samples,
        )
        return made


class _NevergradSearch(Search):
    def __init__(self, settings: Nevergrad, problem: Problem) -> None:
        super().__init__(problem)
        self.settings = settings
        self.unit_4 = torch.tensor([problem.bounds.max_step_m] * 3 + [1.0])
        seed = int(torch.randint(2**31 - 1, (1,), generator=problem.generator))
        start_K4 = (problem.mean_K4 / self.unit_4).clamp(-1, 1)
        with _quiet():
            self.library = settings.make(start_K4, seed, problem.spread)
        self.asked: list[_Point] = []

    def iterate(self) -> None:
        with _quiet():
            super().iterate()

    def propose(self) -> Tensor:
        self.asked = [self.library.ask() for _ in range(self.settings.num_samples)]
        points = np.stack([point.value for point in self.asked])
        return torch.from_numpy(points).float() * self.unit_4

    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        for point, energy in zip(self.asked, energies_B.tolist(), strict=True):
            self.library.tell(point, energy)
        self.offer_least(samples_BK4, energies_B)
        self.std_K4 = samples_BK4.std(0)
