"""Shared parts of all optimisers: problem, search loop, stopping rules and elite update.

An optimiser is a frozen dataclass of settings. Its `start` returns a `Search`, which holds the
state of one search, and the loop in `Solver.minimise` asks it for samples until a stopping rule
applies:

    repeat at most `iterations` times:
        samples = search.propose()        actions inside the bounds energies = cost(samples) raises
        on a non-finite energy search.update(samples, energies)  updates the state; keeps the best
        plan so far stop at the deadline, or once the spread is below `min_spread_m`

Shapes: B samples, E elites, K horizon, A action (7), 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import EnergyError, PlanError
from planning.ranges import between, check_fields

Cost = Callable[[Tensor], Tensor]
"""Actions [B, K, A] -> energies [B]."""


@dataclass(frozen=True)
class Plan:
    """Result of a search."""

    actions_KA: Tensor
    """Best plan found, inside the bounds."""
    energy: float
    """Energy of the best sample."""
    spread_m: float
    """Maximum standard deviation of a position in the last iteration [m]."""
    iterations: int
    """Iterations run; fewer if stopped early."""
    calls: int = 0
    """Number of times that the model ran for this plan, in all searches of a planner."""
    frames: int = 0
    """Number of frames that it predicted, samples times steps."""


@dataclass(frozen=True)
class Problem:
    """A search problem."""

    cost: Cost
    bounds: Bounds
    generator: torch.Generator
    mean_K4: Tensor
    """Mean of the first samples."""
    spread: float
    """Standard deviation of the first samples, in half widths of the box."""

    def first_std(self) -> Tensor:
        """Return the standard deviations [K, 4] of the first samples (1 for the gripper)."""
        position = self.spread * self.bounds.max_step_m
        return torch.tensor([position] * 3 + [1.0]).repeat(len(self.mean_K4), 1)


def not_finite(iteration: int) -> EnergyError:
    """Return the error for a non-finite energy, over which an arg-min is meaningless."""
    return EnergyError(
        f"An energy of iteration {iteration} is not finite: the model diverged. Check that state "
        "and actions are in the checkpoint's units (m, rad)"
    )


def gaussian_samples(mean_K4: Tensor, std_K4: Tensor, noise_BK4: Tensor, bounds: Bounds) -> Tensor:
    """Scale noise to samples inside the box; the first sample is the mean."""
    samples_BK4 = mean_K4 + std_K4 * noise_BK4
    samples_BK4[0] = mean_K4
    return bounds.clip(samples_BK4)


def elite_update(
    samples_BK4: Tensor,
    energies_B: Tensor,
    num_elites: int,
    mean_K4: Tensor,
    std_K4: Tensor,
    momentum: Tensor | float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Move a Gaussian toward the samples of lowest energy.

        mean <- m mean + (1 - m) mean(elites)
        std  <- m std  + (1 - m) std(elites)

    It does not synchronise with the host, so it can be captured in a CUDA graph.

    Returns:
        Elite energies [E], elites [E, K, 4] in order of energy, new mean, new standard deviation.
    """
    least_E, order_E = energies_B.topk(num_elites, largest=False)
    elites_EK4 = samples_BK4.index_select(0, order_E)
    new_mean_K4 = momentum * mean_K4 + (1 - momentum) * elites_EK4.mean(0)
    new_std_K4 = momentum * std_K4 + (1 - momentum) * elites_EK4.std(0)
    return least_E, elites_EK4, new_mean_K4, new_std_K4


class Search(ABC):
    """State of a search: mean, standard deviation and best plan so far."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.mean_K4, self.std_K4 = problem.mean_K4, problem.first_std()
        self.best_K4, self.best_energy = problem.mean_K4, float("inf")
        self.iteration = 0

    @abstractmethod
    def propose(self) -> Tensor:
        """Return samples [B, K, 4] inside the box."""

    @abstractmethod
    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        """Update the state from the samples' energies, and call `offer` with the best sample."""

    def evaluate(self, samples_BK4: Tensor) -> Tensor:
        """Return the cost's energies [B] of samples.

        Raises:
            PlanError: The cost returned a wrong shape.
        """
        energies_B = self.problem.cost(self.problem.bounds.full(samples_BK4))
        return self.checked(energies_B, samples_BK4)

    def checked(self, energies_B: Tensor, samples_BK4: Tensor) -> Tensor:
        """Return energies if there is one for each sample.

        Raises:
            PlanError: The shape is wrong.
        """
        if energies_B.shape != samples_BK4.shape[:1]:
            raise PlanError(
                f"The cost of {len(samples_BK4)} plans has shape {tuple(energies_B.shape)}; "
                "allowed: one energy for each plan"
            )
        return energies_B

    def offer(self, energy: float, plan_K4: Tensor) -> None:
        """Keep a plan if it is the best so far."""
        if energy < self.best_energy:
            self.best_energy, self.best_K4 = energy, plan_K4

    def offer_least(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        """Keep the sample of lowest energy if it is the best so far."""
        least = int(energies_B.argmin())
        self.offer(float(energies_B[least]), samples_BK4[least])

    def iterate(self) -> None:
        """Run one iteration.

        Raises:
            EnergyError: An energy is not finite.
        """
        self.iteration += 1
        samples_BK4 = self.propose()
        energies_B = self.evaluate(samples_BK4).detach().cpu()
        if not bool(torch.isfinite(energies_B).all()):
            raise not_finite(self.iteration)
        self.update(samples_BK4, energies_B)

    def spread_m(self) -> float:
        """Return the remaining spread of the positions [m]."""
        return float(self.std_K4[..., :3].max())

    def chosen(self) -> Tensor:
        """Return the plan to use: the best sample seen."""
        return self.best_K4

    def plan(self) -> Plan:
        """Return the result."""
        actions_KA = self.problem.bounds.full(self.chosen())
        return Plan(actions_KA, self.best_energy, self.spread_m(), self.iteration)


Result = TypeVar("Result", covariant=True)


class Runs(Protocol[Result]):
    """What the search loop needs of a search."""

    def iterate(self) -> None:
        """Run one iteration."""

    def spread_m(self) -> float:
        """Return the remaining spread of the positions [m]."""

    def plan(self) -> Result:
        """Return the result."""


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """Base class of all optimisers: shared settings and the search loop."""

    num_samples: int = field(default=64, metadata=between(1, 1_000_000))
    """Number of plans per iteration."""
    iterations: int = field(default=6, metadata=between(1, 10_000))
    """Maximum number of iterations."""
    min_spread_m: float = field(default=0.0, metadata=between(0, 1, "m"))
    """Stop once the spread of positions is below this [m]; 0 never stops."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            PlanError: A value is out of its range.
        """
        check_fields(self)

    @abstractmethod
    def start(self, problem: Problem) -> Search:
        """Return a new search."""

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
        """Find low-energy actions.

        Args:
            cost: Actions [B, K, 7] -> energies [B].
            bounds: Limits and gripper rule; every sample obeys them.
            generator: Random generator.
            horizon: Number of actions per plan, K.
            start_K4: Mean of the first samples (warm start); None for no motion.
            spread: Standard deviation of the first samples, in half widths of the box.
            deadline_s: Time limit [s], checked after each iteration.

        Raises:
            PlanError: `start_K4` or the energies have a wrong shape.
            EnergyError: An energy is not finite; the message names the iteration.
        """
        began = time.perf_counter()
        mean_K4 = torch.zeros(horizon, 4) if start_K4 is None else start_K4.clone()
        if mean_K4.shape != (horizon, 4):
            raise PlanError(
                f"start_K4 has shape {tuple(mean_K4.shape)}; allowed: ({horizon}, 4) for "
                f"horizon={horizon}"
            )
        problem = Problem(cost, bounds, generator, mean_K4, spread)
        return self.run(self.start(problem), deadline_s, began)

    def minimise_all(
        self, problems: Sequence[Problem], *, deadline_s: float | None = None
    ) -> list[Plan]:
        """Solve independent problems; a search on a device may solve them together.

        Args:
            problems: Problems with costs from one observation, in the order of their random draws.
            deadline_s: Time limit of each search [s].

        Raises:
            PlanError: The energies have a wrong shape.
            EnergyError: An energy is not finite; the message names the iteration.
        """
        return [self.run(self.start(problem), deadline_s) for problem in problems]

    def run(
        self, search: Runs[Result], deadline_s: float | None, began: float | None = None
    ) -> Result:
        """Iterate a search until a stopping rule applies; return its result."""
        began = time.perf_counter() if began is None else began
        for _ in range(self.iterations):
            search.iterate()
            if self._is_over(search, began, deadline_s):
                break
        return search.plan()

    def _is_over(self, search: Runs[Result], began: float, deadline_s: float | None) -> bool:
        if deadline_s is None and not self.min_spread_m:
            return False
        narrow = search.spread_m() < self.min_spread_m  # synchronises with the device
        return narrow or (deadline_s is not None and time.perf_counter() - began > deadline_s)


@dataclass(frozen=True, kw_only=True)
class EliteSolver(Solver):
    """Base class of optimisers that keep the lowest-energy samples."""

    num_elites: int = field(default=10, metadata=between(2, 1_000_000))
    """Number of lowest-energy samples that update mean and standard deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_elites > self.num_samples:
            raise PlanError(
                f"num_elites={self.num_elites} is more than num_samples={self.num_samples}. Lower "
                "num_elites or raise num_samples."
            )
