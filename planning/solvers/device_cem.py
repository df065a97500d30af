"""Cross-entropy method on the model's device, without host synchronisation during a search.

On CUDA an iteration (samples, predictions, energies, elites) is captured once per search as a CUDA
graph and replayed. Noise is drawn on the CPU, so that a seed gives the same samples as `CEM`. The
equations are those of `planning.solvers.cem`.

Shapes: I iterations, B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.solvers.cem import CEM, CEMSearch
from planning.solvers.search import Plan, Problem, Search, not_finite


@dataclass(frozen=True, kw_only=True)
class DeviceCEM(CEM):
    """`CEM` with samples, elites and deviations on a device; equal seeds give equal plans."""

    device: str = "cuda"
    """Device of the model."""
    graph: bool = True
    """Whether to capture and replay iterations on CUDA; the cost must then not synchronise with the
    host."""

    def start(self, problem: Problem) -> Search:
        """Return a new search."""
        return _DeviceSearch(self, problem)


class _DeviceSearch(CEMSearch):
    """Search whose iterations read and write device tensors in place."""

    def __init__(self, settings: DeviceCEM, problem: Problem) -> None:
        super().__init__(settings, problem)
        shape, device = (settings.num_samples, *problem.mean_K4.shape), settings.device
        noise = [
            torch.randn(shape, generator=problem.generator) for _ in range(settings.iterations)
        ]
        self.noise_IBK4 = torch.stack(noise).to(device)
        self.momentum_4 = self.momentum_4.to(device)
        self.mean_K4, self.std_K4 = self.mean_K4.to(device, copy=True), self.std_K4.to(device)
        self.best_K4 = self.mean_K4.clone()
        self.energy = torch.tensor(torch.inf, device=device)
        self.count_1 = torch.zeros(1, dtype=torch.long, device=device)
        self.first_bad_1 = torch.zeros(1, dtype=torch.long, device=device)
        self.captures = settings.graph and self.mean_K4.is_cuda
        self.run: Callable[[], None] = self._step

    def iterate(self) -> None:
        """Run one iteration: the first eagerly, the others by replaying a captured graph."""
        self.iteration += 1
        if self.captures and self.iteration == 1:
            _on_side_stream(self._step)
            return
        if self.captures and self.iteration == 2:
            self.run = _captured(self._step)
        self.run()

    def _step(self) -> None:
        samples_BK4 = self.propose()
        self.update(samples_BK4, self.evaluate(samples_BK4))

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
        """Return the result.

        Raises:
            EnergyError: an energy was not finite; the message names the first affected iteration.
        """
        first_bad = int(self.first_bad_1)
        if first_bad:
            raise not_finite(first_bad)
        self.best_energy = float(self.energy)
        return super().plan()

    def chosen(self) -> Tensor:
        return super().chosen().cpu()


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
