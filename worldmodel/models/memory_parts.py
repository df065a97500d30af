"""Encode a batch in parts that fit into the free memory of a CUDA device.

The memory of an item is measured on the first part of its kind; on a CPU the batch stays whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

FIRST = 2
"""Number of items that are encoded to measure the memory of one."""
SHARE = 0.5
"""Fraction of the free memory that a part may take."""


class MemoryParts:
    """Splits batches by measured memory, and keeps what it measured."""

    def __init__(self) -> None:
        self.bytes_of: dict[Hashable, float] = {}

    def __call__(
        self, encode: Callable[[Tensor], Tensor], items: Tensor, device: torch.device
    ) -> Tensor:
        """Return `encode(items)`, computed in parts along the first axis.

        Args:
            encode: Function of items that returns one result for each of them.
            items: Batch, on any device.
            device: Device that encodes.
        """
        if device.type != "cuda" or len(items) <= FIRST:
            return encode(items)
        low = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        kind, done = (items.shape[1:], items.dtype, low), []
        if kind not in self.bytes_of:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            done = [encode(items[:FIRST])]
            taken = torch.cuda.max_memory_allocated(device) - before
            self.bytes_of[kind] = max(1.0, taken / FIRST)
        rest = items[len(done) * FIRST :]
        size = max(1, int(SHARE * free_bytes(device) / self.bytes_of[kind]))
        return torch.cat([*done, *(encode(part) for part in rest.split(size))])


def free_bytes(device: torch.device) -> int:
    """Return the memory of a CUDA device that is free, or that torch keeps for reuse [bytes]."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
