"""CEM that stays on the model's device: no number comes back to the host before the end.

On CUDA an iteration (noise, imagination, energies, elites) is captured once a plan as a CUDA graph
and replayed. Noise is drawn on the CPU, so a seed gives the samples that `CEM` gives.

Shapes: I iterations, B samples, K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import EnergyError
from planning.solvers.cem import CEM, Cost, Plan, clamp_free, first_spread


@dataclass
class _Search:
    """What an iteration reads and writes in place, all on the device."""

    noise_IBK4: Tensor
    mean_K4: Tensor
    std_K4: Tensor
    best_K4: Tensor
    energy: Tensor
    count_1: Tensor
    """Iterations done."""
    first_bad_1: Tensor
    """First iteration with an energy that is not finite; 0 none."""
    momentum_4: Tensor


@dataclass(frozen=True, kw_only=True)
class DeviceCEM(CEM):
    """`CEM` with samples, elites and spread on a device; the same plans for the same seed."""

    device: str = "cuda"
    graph: bool = True
    """Capture and replay on CUDA; the cost must not synchronise with the host then."""

    def _begin(
        self, generator: torch.Generator, start_K4: Tensor | None, horizon: int, std_K4: Tensor
    ) -> _Search:
        shape = (self.num_samples, horizon, 4)
        noise = [torch.randn(shape, generator=generator) for _ in range(self.iterations)]
        mean = torch.zeros(horizon, 4) if start_K4 is None else start_K4.clone()
        momentum = torch.tensor([self.momentum_position] * 3 + [self.momentum_gripper])
        parts = (
            torch.stack(noise),
            mean,
            std_K4,
            mean.clone(),
            torch.tensor(torch.inf),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, dtype=torch.long),
            momentum,
        )
        return _Search(*(part.to(self.device) for part in parts))

    def _iterate(self, s: _Search, cost: Cost, bounds: Bounds) -> None:
        samples = s.mean_K4 + s.std_K4 * s.noise_IBK4.index_select(0, s.count_1)[0]
        samples[0] = s.mean_K4
        energies = cost(bounds.full(clamp_free(samples, bounds)))
        s.count_1.add_(1)
        bad = ~energies.isfinite().all()
        s.first_bad_1.copy_(torch.where(bad & (s.first_bad_1 == 0), s.count_1, s.first_bad_1))
        least, order = energies.topk(self.num_elites, largest=False)
        elites = samples.index_select(0, order)
        s.best_K4.copy_(torch.where(least[0] < s.energy, elites[0], s.best_K4))
        s.energy.copy_(torch.minimum(s.energy, least[0]))
        keep = s.momentum_4
        s.mean_K4.copy_(keep * s.mean_K4 + (1 - keep) * elites.mean(0))
        s.std_K4.copy_(keep * s.std_K4 + (1 - keep) * elites.std(0))

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
        """Find actions of little cost; see `CEM.minimise`.

        The host waits for the device after every iteration only where a deadline or a spread may
        end the search; else once, at the end.

        Raises:
            EnergyError: an energy was not finite; found at the end, with its first iteration.
        """
        began = time.perf_counter()
        s = self._begin(generator, start_K4, horizon, first_spread(bounds, spread, horizon))

        def iterate() -> None:
            self._iterate(s, cost, bounds)

        run, done = iterate, 0
        for done in range(1, self.iterations + 1):
            if done == 1 and self.graph and s.mean_K4.is_cuda:
                _beside(iterate)
            elif done == 2 and self.graph and s.mean_K4.is_cuda:
                run = _captured(iterate)
                run()
            else:
                run()
            if self._over(s, began, deadline_s):
                break
        first_bad = int(s.first_bad_1)
        if first_bad:
            raise EnergyError(
                f"An energy of iteration {first_bad} is not finite: the model diverged. Check that "
                "state and actions are in the checkpoint's units (m, rad)"
            )
        chosen = torch.cat([s.mean_K4[:, :3], s.best_K4[:, 3:]], dim=-1).cpu()
        return Plan(bounds.full(chosen), float(s.energy), float(s.std_K4[:, :3].max()), done)

    def _over(self, s: _Search, began: float, deadline_s: float | None) -> bool:
        if deadline_s is None and not self.min_spread_m:
            return False
        narrow = float(s.std_K4[:, :3].max()) < self.min_spread_m  # waits for the device
        return narrow or (deadline_s is not None and time.perf_counter() - began > deadline_s)


def _beside(iterate: Callable[[], None]) -> None:
    """Run on a stream of its own, as the capture that follows wants."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        iterate()
    torch.cuda.current_stream().wait_stream(stream)


def _captured(iterate: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iterate()
    return graph.replay
