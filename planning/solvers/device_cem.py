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

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from planning.plan_cost import PlanCost
from planning.solvers.cem import CEM, CEMSearch
from planning.solvers.search import Plan, Problem, Search, not_finite

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
    kept: dict[Hashable, _DeviceSearch] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Searches with captured graphs, by kind."""

    def start(self, problem: Problem) -> Search:
        """Return a new search, or one of the same kind that starts again."""
        kind = _kind(problem)
        search = self.kept.get(kind)
        if search is None:
            search = _DeviceSearch(self, problem)
            if kind is not None and search.captures:
                while len(self.kept) >= KEPT:
                    del self.kept[next(iter(self.kept))]
                self.kept[kind] = search
        search.begin(problem)
        return search


def _kind(problem: Problem) -> Hashable | None:
    """Return what searches share that can replay the same graph; None if it is unknown."""
    if not isinstance(problem.cost, PlanCost):
        return None
    mode = torch.is_autocast_enabled("cuda"), torch.is_inference_mode_enabled()
    has_limits = problem.bounds.limits("cpu") is not None
    bounds = replace(problem.bounds, start_m=None, low_m=None, high_m=None)
    return problem.cost.kind, problem.mean_K4.shape, bounds, has_limits, mode


class _DeviceSearch(CEMSearch):
    """Search whose iterations read and write device tensors in place."""

    def __init__(self, settings: DeviceCEM, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.device, shape = settings.device, problem.mean_K4.shape
        self.captures = settings.graph and _can_capture(self.device)
        self.graph: Callable[[], None] | None = None
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
        self.problem, self.iteration, settings = problem, 0, self.settings
        shape = (settings.num_samples, *problem.mean_K4.shape)
        noise = [
            torch.randn(shape, generator=problem.generator) for _ in range(settings.iterations)
        ]
        self._upload(self.noise_IBK4, torch.stack(noise))
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

    def iterate(self) -> None:
        """Run one iteration: the first of a kind eagerly, then by replaying a captured graph."""
        self.iteration += 1
        if not self.captures:
            self._step()
        elif self.graph is None and self.iteration == 1:
            _on_side_stream(self._step)
        else:
            if self.graph is None:
                self.graph = _captured(self._step)
            self.graph()
        cost = self.problem.cost
        if self.cost is not cost and isinstance(cost, PlanCost):  # a graph's replay counts nothing
            cost.count(self.settings.num_samples, cost.repeats * len(self.mean_K4))

    def _step(self) -> None:
        samples_BK4 = self.propose()
        self.update(samples_BK4, self.evaluate(samples_BK4))

    def evaluate(self, samples_BK4: Tensor) -> Tensor:
        bounds = self.problem.bounds
        has_limits = bounds.limits("cpu") is not None
        actions_BKA = bounds.full(samples_BK4, self.limits_33 if has_limits else None)
        return self.checked(self.cost(actions_BKA), samples_BK4)

    def noise(self) -> Tensor:
        return self.noise_IBK4.index_select(0, self.count_1)[0]

    def update(self, samples_BK4: Tensor, energies_B: Tensor) -> None:
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
            EnergyError: an energy was not finite; the message names the first affected iteration.
        """
        spread_1 = self.std_K4[..., :3].max().reshape(1)
        parts = [self.first_bad_1.float(), self.energy, spread_1, self.chosen().flatten()]
        first_bad, energy, spread_m, *chosen = torch.cat(parts).tolist()
        if int(first_bad):
            raise not_finite(int(first_bad))
        chosen_K4 = torch.tensor(chosen).view(-1, 4)
        actions_KA = self.problem.bounds.full(chosen_K4)
        return Plan(actions_KA, energy, spread_m, self.iteration)


def _can_capture(device: str) -> bool:
    return torch.device(device).type == "cuda"


def _on_side_stream(step: Callable[[], None]) -> None:
    """Run a step on a separate stream, as warm-up before a capture."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
