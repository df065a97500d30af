"""Iterations that are captured once as a CUDA graph and then replayed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch


class Replayed(ABC):
    """A search whose iterations read and write the same device tensors each time."""

    iteration: int = 0
    captures: bool = False
    """Whether to capture the iterations; without, they run eagerly."""
    graph: Callable[[], None] | None = None

    @abstractmethod
    def step(self) -> None:
        """Run one iteration eagerly."""

    @abstractmethod
    def count_step(self) -> None:
        """Add what an iteration asked of the model to the problem's tally."""

    def iterate(self) -> None:
        """Run one iteration: the first one ever eagerly, then by replaying a captured graph."""
        self.iteration += 1
        if not self.captures:
            self.step()
        elif self.graph is None and self.iteration == 1:
            on_side_stream(self.step)
        else:
            if self.graph is None:
                self.graph = captured(self.step)
            self.graph()
        self.count_step()


def can_capture(device: str) -> bool:
    """Return whether a device captures graphs."""
    return torch.device(device).type == "cuda"


def on_side_stream(step: Callable[[], None]) -> None:
    """Run a step on a separate stream, as warm-up before a capture."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step; return the function that replays it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
