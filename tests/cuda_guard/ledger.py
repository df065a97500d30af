"""What operations on the make-believe device did: waits, copies to it, mixes and bytes."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("worldmodel", "planning", "envs", "robot")
MATRIX = ("mm", "addmm", "bmm", "baddbmm", "convolution", "attention")
"""Parts of names of operators that multiply matrices; all others count as elementwise."""
GATHERS = ("index_select", "index", "gather", "embedding")
"""Operators that read as many numbers of their first operand as they write."""


def site() -> str:
    """Return `file:function` of the innermost frame that lies in one of the packages."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
            return f"{path.relative_to(ROOT)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


def nbytes(tensor: Tensor) -> int:
    """Return the bytes of memory behind a tensor; what `expand` repeats counts once."""
    count = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else min(size, 1)
    return count


@dataclass
class Ledger:
    """Record of one case, and where it runs."""

    device: str = "cuda"
    """Device that the case uses."""
    low: bool | None = None
    """Whether networks are in bfloat16 and trainings autocast to it. None leaves networks in
    float32, and trainings as they are by default."""
    waits: Counter[str] = field(default_factory=Counter)
    """`kind at site` -> number of times the host waited for the device."""
    captured: Counter[str] = field(default_factory=Counter)
    """Waits and copies inside the capture of a graph, where they are errors."""
    uploads: Counter[str] = field(default_factory=Counter)
    """`kind at site` -> number of copies to the device: `pageable` ones stop the host."""
    captures: int = 0
    """Number of captured graphs."""
    replays: int = 0
    """Number of replays of captured graphs."""
    freed_early: int = 0
    """Number of tensors that were freed while another stream used them, and not recorded there."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Operator -> bytes of its operands and results, views excluded."""
    figures: dict[str, float] = field(default_factory=dict)
    """Figures of the case."""
    step: dict[str, dict[str, int]] = field(default_factory=dict)
    """Waits, uploads, captures and early frees between `begin_step` and `end_step`."""
    is_capturing: bool = False
    counts: bool = True
    """Whether bytes are counted."""

    def randn(self, *shape: int) -> Tensor:
        """Return random numbers, drawn on the CPU, on the device."""
        return torch.randn(shape).to(self.device)

    def placed(self, network: Network) -> Network:
        """Return a network on the device, in bfloat16 if `low`."""
        return (network.bfloat16() if self.low else network).to(self.device)

    def row(self) -> dict[str, object]:
        """Return what a JSON record holds."""
        names = ("waits", "uploads", "captured", "captures", "replays", "figures", "step")
        return {name: getattr(self, name) for name in names}

    def begin_step(self) -> None:
        """Begin to record one step of a training, or a plan, by itself."""
        self._before = self._counts()

    def end_step(self) -> None:
        """Keep what was recorded since `begin_step`."""
        self.step = {name: dict(now - self._before[name]) for name, now in self._counts().items()}

    def _counts(self) -> dict[str, Counter[str]]:
        graphs = Counter(captures=self.captures, replays=self.replays)
        freed = Counter(early=self.freed_early)
        return {"waits": +self.waits, "uploads": +self.uploads, "graphs": graphs, "freed": freed}

    def wait(self, kind: str) -> None:
        """Record that the host waits."""
        self.waits[f"{kind} at {site()}"] += 1
        if self.is_capturing:
            self.captured[f"{kind} at {site()}"] += 1

    def upload(self, kind: str) -> None:
        """Record a copy from the host to the device."""
        self.uploads[f"{kind} at {site()}"] += 1
        if self.is_capturing:
            self.captured[f"{kind} copy to the device at {site()}"] += 1

    def moved(
        self, func: torch._ops.OpOverload, operands: list[Tensor], results: list[Tensor]
    ) -> None:
        """Record the bytes that an operator reads and writes."""
        name = func._schema.name.removeprefix("aten::")
        if not self.counts or func.is_view or name in ("_unsafe_view", "detach", "empty", "lift"):
            return
        written = sum(map(nbytes, results))
        read = [nbytes(t) for t in operands]
        if name in GATHERS and read:
            read[0] = min(read[0], written)
        self.bytes[name] += sum(read) + written

    def elementwise(self) -> int:
        """Return the bytes moved by operators other than matrix products and attention."""
        return sum(n for name, n in self.bytes.items() if not any(m in name for m in MATRIX))
