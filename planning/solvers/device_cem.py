"""Cross-entropy method on the model's device, without host synchronisation during a search.

On CUDA an iteration (samples, predictions, energies, elites) is captured as a CUDA graph and
replayed. The graph and the tensors that it reads are kept for later searches of the same kind:
shapes, limits and settings are equal, and the model's weights lie where they were. Noise is drawn
on the CPU, so that a seed gives the same samples as `CEM`. The equations are those of
`planning.solvers.cem`.

Shapes: I iterations, B samples, K horizon, 4 = planned numbers (x, y, z, gripper), 33 = start,
lower and upper corner of the workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from planning.plan_cost import PlanCost, joint_energies
from planning.solvers import replay
from planning.solvers.cem import CEM, CEMSearch
from planning.solvers.replay import Replayed
from planning.solvers.search import Plan, Problem, not_finite

KEPT = 8
"""Number of kinds of searches whose graphs are kept; the one made first is dropped."""


@dataclass(frozen=True, kw_only=True)
class DeviceCEM(CEM):
    """`CEM` with samples, elites and deviations on a device; equal seeds give equal plans."""

    device: str = "cuda"
    """Device of the model."""
    graph: bool = True
    """Whether to capture and replay iterations on CUDA; the cost must then not synchronise with the
    host."""
    kept: dict[Hashable, DeviceSearch | DeviceGroup] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Searches with captured graphs, by kind."""

    def start(self, problem: Problem) -> DeviceSearch:
        """Return a new search, or one of the same kind that starts again."""
        return self._kept(_kind(problem), lambda: DeviceSearch(self, problem), [problem])

    def draw(self, problem: Problem) -> Tensor:
        """Draw the noise [I, B, K, 4] of a search, as many numbers as `CEM` draws in turn."""
        shape = (self.num_samples, *problem.mean_K4.shape)
        generator = problem.generator
        return torch.stack(
            [torch.randn(shape, generator=generator) for _ in range(self.iterations)]
        )

    def minimise_all(
        self, problems: Sequence[Problem], *, deadline_s: float | None = None
    ) -> list[Plan]:
        """Search for several plans from one observation at once; see `Solver.minimise_all`.

        The model imagines the samples of all searches in one batch, the shorter ones as long as the
        longest. `min_spread_m` ends them together.
        """
        costs = [problem.cost for problem in problems]
        if len(problems) == 1 or not all(isinstance(cost, PlanCost) for cost in costs):
            return super().minimise_all(problems, deadline_s=deadline_s)
        kinds = tuple(_kind(problem) for problem in problems)
        group = self._kept(
            kinds, lambda: DeviceGroup([DeviceSearch(self, p) for p in problems]), problems
        )
        return self.run(group, deadline_s)

    def _kept(self, kind: Hashable, make: Callable[[], Kept], problems: Sequence[Problem]) -> Kept:
        found = self.kept.get(kind)
        if found is None:
            found = make()
            if kind is not None and found.captures:
                while len(self.kept) >= KEPT:
                    del self.kept[next(iter(self.kept))]
                self.kept[kind] = found
        found.begin(*problems)
        return found  # type: ignore[return-value]


def _kind(problem: Problem) -> Hashable | None:
    """Return what searches share that can replay the same graph; None if it is unknown."""
    if not isinstance(problem.cost, PlanCost):
        return None
    mode = torch.is_autocast_enabled("cuda"), torch.is_inference_mode_enabled()
    has_limits = problem.bounds.limits("cpu") is not None
    bounds = replace(problem.bounds, start_m=None, low_m=None, high_m=None)
    return problem.cost.kind, problem.mean_K4.shape, bounds, has_limits, mode


class DeviceSearch(Replayed, CEMSearch):
    """Search whose iterations read and write device tensors in place."""

    def __init__(self, settings: DeviceCEM, problem: Problem) -> None:
        CEMSearch.__init__(self, settings, problem)
        self.draw = settings.draw
        self.device, shape = settings.device, problem.mean_K4.shape
        self.captures = settings.graph and replay.can_capture(self.device)
        self.noise_IBK4 = self._empty(settings.iterations, settings.num_samples, *shape)
        self.start_2K4, self.limits_33 = self._empty(2, *shape), self._empty(3, 3)
        self.mean_K4, self.std_K4, self.best_K4 = (self._empty(*shape) for _ in range(3))
        self.energy, self.momentum_4 = self._empty(1), self.momentum_4.to(self.device)
        self.count_1 = torch.zeros(1, dtype=torch.long, device=self.device)
        self.first_bad_1 = torch.zeros(1, dtype=torch.long, device=self.device)
        self.cost = problem.cost
        if isinstance(self.cost, PlanCost) and self.captures:
            self.cost = self.cost.with_tensors(tuple(t.clone() for t in self.cost.tensors))

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.device)

    def begin(self, problem: Problem) -> None:
        """Set every tensor that iterations read for a problem of the same kind."""
        self.problem, self.iteration = problem, 0
        self._upload(self.noise_IBK4, self.draw(problem))
        self._upload(self.start_2K4, torch.stack([problem.mean_K4, problem.first_std()]))
        limits_33 = problem.bounds.limits("cpu")
        if limits_33 is not None:
            self._upload(self.limits_33, limits_33)
        self.mean_K4.copy_(self.start_2K4[0])
        self.best_K4.copy_(self.start_2K4[0])
        self.std_K4.copy_(self.start_2K4[1])
        self.energy.fill_(torch.inf)
        self.count_1.zero_()
        self.first_bad_1.zero_()
        if isinstance(self.cost, PlanCost) and isinstance(problem.cost, PlanCost):
            for kept, new in zip(self.cost.tensors, problem.cost.tensors, strict=True):
                if kept is not new:
                    kept.copy_(new)

    def _upload(self, kept: Tensor, new: Tensor) -> None:
        """Copy from the host without waiting for the device."""
        kept.copy_(new.pin_memory() if kept.is_cuda else new, non_blocking=True)

    def step(self) -> None:
        """Draw samples, imagine them and move the Gaussian."""
        samples_BK4 = self.propose()
        self.update(samples_BK4, self.evaluate(samples_BK4))

    def count_step(self) -> None:
        """Add the samples to the tally."""
        cost = self.problem.cost
        if self.cost is not cost and isinstance(cost, PlanCost):  # a replay counts nothing
            cost.count(self.settings.num_samples, cost.repeats * len(self.mean_K4))

    def actions(self, samples_BK4: Tensor) -> Tensor:
        """Return the actions of samples inside the limits that a graph reads."""
        bounds = self.problem.bounds
        has_limits = bounds.limits("cpu") is not None
        return bounds.full(samples_BK4, self.limits_33 if has_limits else None)

    def evaluate(self, samples_BK4: Tensor) -> Tensor:
        """Return the energies [B] of samples."""
        return self.checked(self.cost(self.actions(samples_BK4)), samples_BK4)

    def noise(self) -> Tensor:
        """Return this iteration's noise [B, K, 4]."""
        return self.noise_IBK4.index_select(0, self.count_1)[0]

    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
        """Move the Gaussian toward the elites, in place."""
        self.count_1.add_(1)
        bad = ~energies_B.isfinite().all() & (self.first_bad_1 == 0)
        self.first_bad_1.copy_(torch.where(bad, self.count_1, self.first_bad_1))
        least_E, elites_EK4, mean_K4, std_K4 = self.toward_elites(samples_BK4, energies_B)
        self.best_K4.copy_(torch.where(least_E[0] < self.energy, elites_EK4[0], self.best_K4))
        self.energy.copy_(torch.minimum(self.energy, least_E[0]))
        self.mean_K4.copy_(mean_K4)
        self.std_K4.copy_(std_K4)

    def plan(self) -> Plan:
        """Return the result, which is read from the device at once.

        Raises:
            EnergyError: An energy was not finite; the message names the first affected iteration.
        """
        spread_1 = self.std_K4[..., :3].max().reshape(1)
        parts = [self.first_bad_1.float(), self.energy, spread_1, self.chosen().flatten()]
        first_bad, energy, spread_m, *chosen = torch.cat(parts).tolist()
        if int(first_bad):
            raise not_finite(int(first_bad))
        chosen_K4 = torch.tensor(chosen).view(-1, 4)
        actions_KA = self.problem.bounds.full(chosen_K4)
        return Plan(actions_KA, energy, spread_m, self.iteration)


class DeviceGroup(Replayed):
    """Searches from one observation whose samples the model imagines in one batch."""

    def __init__(self, searches: Sequence[DeviceSearch]) -> None:
        self.searches = searches
        self.captures = searches[0].captures

    def begin(self, *problems: Problem) -> None:
        """Start again with problems of the same kinds; each draws its noise in turn."""
        self.iteration = 0
        self.asked = [p.cost for p in problems if isinstance(p.cost, PlanCost)]
        for search, problem in zip(self.searches, problems, strict=True):
            search.begin(problem)

    def step(self) -> None:
        """Draw the samples of all searches, imagine them at once and move the Gaussians."""
        proposed = [search.propose() for search in self.searches]
        costs = [search.cost for search in self.searches]
        actions = [s.actions(x) for s, x in zip(self.searches, proposed, strict=True)]
        found = joint_energies(costs, actions)  # type: ignore[arg-type]
        for search, samples_BK4, energies_B in zip(self.searches, proposed, found, strict=True):
            search.update(samples_BK4, energies_B)

    def count_step(self) -> None:
        """Add the padded batch to the tally, which the costs share."""
        for search in self.searches:
            search.iteration = self.iteration
        if self.captures:  # a replay counts nothing
            samples = sum(search.settings.num_samples for search in self.searches)
            lengths = [len(search.mean_K4) for search in self.searches]
            steps = [c.repeats * n for c, n in zip(self.asked, lengths, strict=True)]
            self.asked[0].count(samples, max(steps))

    def spread_m(self) -> float:
        """Return the largest remaining spread [m] of the searches."""
        return max(search.spread_m() for search in self.searches)

    def plan(self) -> list[Plan]:
        """Return the plans.

        Raises:
            EnergyError: An energy was not finite.
        """
        return [search.plan() for search in self.searches]


Kept = TypeVar("Kept", DeviceSearch, DeviceGroup)
