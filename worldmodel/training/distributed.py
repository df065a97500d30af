"""Distributed training under torchrun with DDP or FSDP2, with errors instead of hangs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from worldmodel.errors import ConfigError, TrainingError

T = TypeVar("T")
TIMEOUT = timedelta(seconds=45)
"""Timeout of collective operations."""


@dataclass(frozen=True)
class Ranks:
    """Rank of this process among all processes of a run."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """Index of this process on its machine."""

    @property
    def grouped(self) -> bool:
        """Return whether a process group exists, as with a single process under torchrun."""
        return dist.is_available() and dist.is_initialized()

    def device(self, device: torch.device) -> torch.device:
        """Return this rank's device."""
        if device.type == "cuda" and device.index is None and self.grouped:
            return torch.device("cuda", self.local)
        return device

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.grouped:
            dist.barrier()

    def wrap(
        self, model: nn.Module, kind: Literal["ddp", "fsdp"], blocks: Iterable[nn.Module]
    ) -> nn.Module:
        """Return the module to call: the model wrapped in DDP, or sharded in place.

        Args:
            model: module with all trained parameters.
            kind: `ddp` or `fsdp`.
            blocks: submodules that FSDP shards separately.

        Raises:
            ConfigError: `fsdp` is set in a single process without torchrun.
        """
        if not self.grouped:
            if kind == "fsdp":
                raise ConfigError(
                    "parallel=fsdp has no effect in one process: start with torchrun, or set "
                    "launcher=slurm or launcher=local"
                )
            return model
        if kind == "ddp":
            return DistributedDataParallel(model)
        for block in blocks:
            fully_shard(block)  # type: ignore[arg-type]
        return cast(nn.Module, fully_shard(model))  # type: ignore[arg-type]

    @contextmanager
    def unsharded(self, engine: nn.Module) -> Iterator[None]:
        """Gather the weights so that parts of a sharded model can be called in validation."""
        parts = [module for module in engine.modules() if isinstance(module, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        yield
        for part in parts:
            part.set_reshard_after_forward(part is not parts[0], recurse=False)
            part.reshard()

    def full_state(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the full weights (on rank 0 if sharded); every rank must call it."""
        if not self.grouped:
            return model.state_dict()
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return cast(dict[str, Tensor], get_model_state_dict(model, options=options))

    def mean(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Return the mean over ranks of each value; every rank must pass the same names."""
        if self.count == 1:
            return values
        names = sorted(values)
        row = torch.tensor([values[name] for name in names], device=device)
        dist.all_reduce(row)
        return dict(zip(names, (row / self.count).tolist(), strict=True))

    def largest(self, number: int) -> int:
        """Return the largest of the ranks' numbers; every rank must call it."""
        if self.count == 1:
            return number
        box = torch.tensor(number)
        dist.all_reduce(box, dist.ReduceOp.MAX)
        return int(box)

    def from_rank_0(self, value: T) -> T:
        """Return rank 0's value; every rank must call it."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Convert the failure of a collective operation to an error that names this rank.

        Raises:
            TrainingError: a collective operation failed.
        """
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            if not self.grouped or isinstance(error, TrainingError):
                raise
            raise TrainingError(
                f"Rank {self.rank} of {self.count} lost another rank: {error}. Start the same "
                "command again; it resumes from the last checkpoint"
            ) from error


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the process group of torchrun or a job, if there is one."""
    if "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
    dist.barrier()
    dist.destroy_process_group()
