"""Functions with a second implementation that CUDA uses where it measures faster.

Which of the two is faster depends on the device, torch and the shape, so both are timed once for
each kind of input, on the first inputs of that kind; with the backward pass if the input requires
gradients. On a CPU, for small inputs and inside a compiled function, the plain implementation runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Literal, TypeVar, TypeVarTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Ts = TypeVarTuple("Ts")
LEAST = 2**22
"""Minimum number of elements of the first input for which a second implementation is tried; for
fewer, compiling one takes longer than it ever saves."""
REPEATS = 5
"""Number of runs of an implementation that are timed together."""


class Fastest(Generic[Result, *Ts]):
    """A plain function and a fast one, with the same arguments and results.

    Args:
        plain: Function of tensors and other arguments; the first argument is a tensor. Inputs are
            of one kind if its device, data type and last two sizes are equal.
        make_fast: Returns the fast function; called at most once, on the first large CUDA input.
    """

    def __init__(
        self,
        plain: Callable[[Tensor, *Ts], Result],
        make_fast: Callable[[], Callable[[Tensor, *Ts], Result]],
    ):
        self.plain, self.make_fast = plain, make_fast
        self.fast: Callable[[Tensor, *Ts], Result] | None = None
        self.chosen: dict[Hashable, Callable[[Tensor, *Ts], Result]] = {}
        self.always: Literal["plain", "fast"] | None = None

    def __call__(self, x: Tensor, *rest: *Ts) -> Result:
        """Return the result of the faster function."""
        if not can_try(x) or torch.compiler.is_compiling():
            return self.plain(x, *rest)
        kind = x.device, x.dtype, x.shape[-2:], torch.is_grad_enabled() and x.requires_grad
        if kind not in self.chosen:
            if torch.cuda.is_current_stream_capturing():  # nothing can be timed now
                return self.plain(x, *rest)
            self.chosen[kind] = self.faster(x, *rest)
        return self.chosen[kind](x, *rest)

    def faster(self, x: Tensor, *rest: *Ts) -> Callable[[Tensor, *Ts], Result]:
        """Time both functions and return the faster one; the plain one if the other fails."""
        if self.always == "plain":
            return self.plain
        try:
            fast = self.fast = self.fast or self.make_fast()
            if self.always == "fast":
                return fast
            # activation checkpointing counts what is saved for gradients: not by these runs
            with saved_tensors_hooks(_kept, _kept):
                times = [_milliseconds(f, x, *rest) for f in (self.plain, fast)]
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ImportError, OSError) as error:  # no Triton, no compiler, a shape
            name = getattr(self.plain, "__name__", "a function")
            log.warning("%s: the fast version failed and is not used: %s", name, error)
            return self.plain
        name, chosen = getattr(self.plain, "__name__", "a function"), times[1] < times[0]
        log.info("%s: plain %.2f ms, fast %.2f ms on %s", name, *times, x.device)
        return fast if chosen else self.plain

    @contextmanager
    def use(self, which: Literal["plain", "fast"]) -> Iterator[None]:
        """Take one of the functions wherever both would be timed, to compare them in a program."""
        before, self.always, self.chosen = (self.always, self.chosen), which, {}
        try:
            yield
        finally:
            self.always, self.chosen = before


def can_try(x: Tensor) -> bool:
    """Return whether an input is large enough, and on a device, for a second implementation."""
    return x.device.type == "cuda" and x.numel() >= LEAST


def _kept(tensor: Tensor) -> Tensor:
    return tensor


def _milliseconds(function: Callable[[Tensor, *Ts], Result], x: Tensor, *rest: *Ts) -> float:
    run_once(function, x, *rest)  # compiles, or chooses kernels
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(REPEATS):
        run_once(function, x, *rest)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / REPEATS


def run_once(function: Callable[[Tensor, *Ts], Result], x: Tensor, *rest: *Ts) -> None:
    """Run a function, and its backward pass if `x` requires gradients; nothing accumulates them."""
    out = function(x, *rest)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return
    results = [out] if isinstance(out, Tensor) else list(out) if isinstance(out, tuple) else []
    found = [t for t in results if isinstance(t, Tensor) and t.requires_grad]
    if found:
        ones = [torch.ones_like(t) for t in found]
        torch.autograd.grad(found, _inputs((x, *rest)), ones, allow_unused=True)


def _inputs(values: Sequence[object]) -> list[Tensor]:
    """Return the tensors and parameters that require gradients."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    for value in values:
        tensors += value.parameters() if isinstance(value, nn.Module) else ()
    return [tensor for tensor in tensors if tensor.requires_grad]
