"""Record the losses and gradients of a training step as CUDA graphs, and replay them.

A small network spends most of a step on a GPU waiting for the host, which starts some five hundred
kernels one by one. A graph starts them together. Each shape of a batch has a graph of its own; all
share their memory.

Source: PyTorch's notes on CUDA graphs, "Whole-network capture".
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldmodel.training.batches import Batch

log = logging.getLogger(__name__)
WARM_UPS = 2
"""Number of eager runs of a shape before it is recorded, in which libraries choose their kernels
and networks make their tables."""
TOLERANCE = 0.02
"""Maximum difference between replayed and eager gradients, relative to the gradients' norm."""
Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """A graph, and the tensors that it reads and writes at every replay."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    losses: Batch
    gradients: Gradients

    def replay(self, batch: Batch) -> None:
        for name, value in batch.items():
            self.batch[name].copy_(value)
        self.graph.replay()


def losses_and_gradients(
    objective: nn.Module, trained: Sequence[Tensor], batch: Batch
) -> tuple[Batch, Gradients]:
    """Compute losses, and the gradients that `backward` would leave in the parameters.

    Args:
        objective: Computes the losses.
        trained: The parameters; those that a loss does not use have None.
        batch: Arguments of the objective.
    """
    low, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    # A cast weight that autocast remembers from before a recording would never change again.
    with torch.autocast("cuda", low, enabled, cache_enabled=False):
        losses: Batch = objective(batch)
    found = torch.autograd.grad(losses["loss"], trained, allow_unused=True)
    gradients = tuple(_laid_out_as(p, g) for p, g in zip(trained, found, strict=True))
    return {name: value.detach() for name, value in losses.items()}, gradients


def _laid_out_as(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Return a gradient in the memory layout of its parameter, which fused optimisers need.

    `backward` lays gradients out so, `torch.autograd.grad` does not.
    """
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class GraphedLosses:
    """Losses of an objective on a CUDA device; a call also writes the gradients of its parameters.

    The objective must compute the same whenever it gets the same batch: what it draws on the host,
    or reads from numbers that change, would be recorded once and for all. A recording that fails,
    or whose gradients differ from eager ones, is reported, and the run continues without graphs.
    """

    def __init__(self, objective: nn.Module, device: torch.device) -> None:
        self.objective = objective
        self.trained = [p for p in objective.parameters() if p.requires_grad]
        self.recorded: dict[Hashable, _Recorded] = {}
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.is_on = True

    def __call__(self, batch: Batch) -> Batch:
        """Return the losses, and write the parameters' gradients; `backward` of them adds nothing.

        Without graphs, return losses whose `backward` computes the gradients.
        """
        kind = tuple((name, tuple(value.shape)) for name, value in batch.items())
        if self.is_on and kind not in self.recorded:
            self._try_to_record(kind, batch)
        if not self.is_on:
            eager: Batch = self.objective(batch)
            return eager
        found = self.recorded[kind]
        found.replay(batch)
        for parameter, gradient in zip(self.trained, found.gradients, strict=True):
            parameter.grad = gradient
        losses = {name: value.clone() for name, value in found.losses.items()}
        losses["loss"].requires_grad_()
        return losses

    def _record(self, batch: Batch) -> _Recorded:
        held = {name: value.clone() for name, value in batch.items()}
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UPS):
                losses_and_gradients(self.objective, self.trained, held)
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # The thread that reads batches copies to the device meanwhile; "global" would forbid it.
        mode = "thread_local"
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode=mode):
            losses, gradients = losses_and_gradients(self.objective, self.trained, held)
        return _Recorded(graph=graph, batch=held, losses=losses, gradients=gradients)

    def _try_to_record(self, kind: Hashable, batch: Batch) -> None:
        try:
            found = self._record(batch)
            if not self.recorded:
                self._compare(found, batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("a step could not be recorded as a CUDA graph and is not: %s", error)
            self.is_on = False
            self.recorded.clear()
            return
        self.recorded[kind] = found

    def _compare(self, found: _Recorded, batch: Batch) -> None:
        """Compare the first recording with an eager step.

        Raises:
            RuntimeError: Their gradients differ.
        """
        found.replay(batch)
        _, gradients = losses_and_gradients(self.objective, self.trained, batch)
        used = [(a, b) for a, b in zip(found.gradients, gradients, strict=True) if b is not None]
        if any(a is None for a, _ in used):
            raise RuntimeError("the recording has no gradient of a parameter that has one")
        replayed = torch.cat([a.flatten() for a, _ in used if a is not None])
        eager = torch.cat([b.flatten() for _, b in used])
        error = (replayed - eager).norm() / eager.norm().clamp_min(1e-12)
        if not bool(error < TOLERANCE):  # NaN is not below it
            raise RuntimeError(f"replayed gradients differ from eager ones by {float(error):.3g}")
