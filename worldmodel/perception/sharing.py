"""What several processes of one run exchange: gradients, counts and names of rejected items."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from worldmodel.checkpoints.loading import resolve_device

T = TypeVar("T")


class Processes(Protocol):
    """The processes of a run, for example `worldmodel.training.distributed.Ranks`."""

    @property
    def rank(self) -> int:
        """Number of this process."""

    @property
    def count(self) -> int:
        """Number of processes."""

    def device(self, device: str) -> torch.device:
        """Return this process's device."""

    def barrier(self) -> None:
        """Wait for all processes."""

    def from_all(self, value: T) -> list[T]:
        """Return the values of all processes in order; every process must call it."""


class OneProcess:
    """A run of a single process."""

    rank, count = 0, 1

    def device(self, device: str) -> torch.device:
        """Return the device of an option."""
        return resolve_device(device)

    def barrier(self) -> None:
        """Do not wait."""

    def from_all(self, value: T) -> list[T]:
        """Return the value."""
        return [value]


def sum_in_place(tensors: list[Tensor]) -> None:
    """Replace tensors of one data type by their sums over processes, in one exchange."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, total in zip(tensors, flat.split(sizes), strict=True):
        tensor.copy_(total.view_as(tensor))


def merged(processes: Processes, found: dict[str, str]) -> dict[str, str]:
    """Return the entries of all processes; every process must call it."""
    return {name: reason for part in processes.from_all(found) for name, reason in part.items()}
