"""What a real device is compared with: numbers of cases, and the host's waits during a step."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch

from tests.cuda_guard.ledger import Ledger, site


def numbers(value: object, name: str = "") -> dict[str, np.ndarray]:
    """Return the float arrays in nested results, by their path; other values are left out."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        parts = list(value.items())
    elif isinstance(value, list | tuple):
        parts = list(enumerate(value))
    elif isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        return {name: np.asarray(value, np.float64)}
    else:
        return {}
    found: dict[str, np.ndarray] = {}
    for key, part in parts:
        found |= numbers(part, f"{name}.{key}".lstrip("."))
    return found


def errors(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the norm of each array's difference as a share of the wanted array's norm.

    Arrays of which less than 1e-6 is wanted are compared as they are.
    """
    assert found.keys() == wanted.keys()
    out = {}
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        assert (np.isfinite(found[name]) == np.isfinite(value)).all(), name
        gap = np.linalg.norm(np.nan_to_num(found[name]) - np.nan_to_num(value))
        size = float(np.linalg.norm(np.nan_to_num(value)))
        out[name] = float(gap) / (size if size > 1e-6 else 1.0)
    return out


@dataclass
class RealLedger(Ledger):
    """Record of what a real device does between `begin_step` and `end_step`."""

    watching: bool = False

    def begin_step(self) -> None:
        """Begin to record: torch then warns of operations for which the host waits."""
        torch.cuda.set_sync_debug_mode("warn")
        self.watching = True

    def end_step(self) -> None:
        """Stop recording."""
        self.watching = False
        torch.cuda.set_sync_debug_mode("default")

    def warned(self, message: Warning | str, *_: object, **__: object) -> None:
        """Record torch's warning of a wait; called in place of `warnings.showwarning`."""
        if self.watching and "called a synchronizing" in str(message):
            self.waits[site()] += 1


@contextlib.contextmanager
def watched(ledger: RealLedger) -> Iterator[None]:
    """Record waits, and captures and replays of graphs, in a ledger."""
    graph = torch.cuda.CUDAGraph
    replay, begin = graph.replay, graph.capture_begin

    def counted_replay(self: torch.cuda.CUDAGraph) -> None:
        ledger.replays += ledger.watching
        replay(self)

    def counted_begin(self: torch.cuda.CUDAGraph, *words: object, **named: object) -> None:
        ledger.captures += ledger.watching
        begin(self, *words, **named)  # type: ignore[arg-type]

    with warnings.catch_warnings(), contextlib.ExitStack() as patches:
        warnings.simplefilter("always")
        patches.enter_context(mock.patch.object(warnings, "showwarning", ledger.warned))
        patches.enter_context(mock.patch.object(graph, "replay", counted_replay))
        patches.enter_context(mock.patch.object(graph, "capture_begin", counted_begin))
        patches.callback(torch.cuda.set_sync_debug_mode, "default")
        yield
