"""One process or many under torchrun: DDP or FSDP2, and no hang when a rank dies."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from worldmodel.errors import TrainingError
from worldmodel.training.checkpointing import ShardedCheckpointStore

log = logging.getLogger(__name__)
PATIENCE = timedelta(seconds=45)
"""A rank that does not answer for so long is given up."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among all."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def from_environment(cls) -> Ranks:
        """As torchrun (or Slurm through submitit) says; one process when nothing is said."""
        if "WORLD_SIZE" not in os.environ:
            return cls()
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", "0"))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        return cls(rank, count, local)

    @property
    def many(self) -> bool:
        """Whether a process group is up (also with one process under torchrun)."""
        return dist.is_initialized()

    def device(self, wanted: torch.device) -> torch.device:
        """This rank's own device."""
        return torch.device("cuda", self.local) if wanted.type == "cuda" else wanted

    def barrier(self) -> None:
        """Wait for all."""
        if self.many:
            dist.barrier()

    def wrap(self, model: nn.Module, kind: str) -> nn.Module:
        """The module to call: DDP around the model, or the model itself, sharded in place."""
        if not self.many:
            return model
        if kind == "ddp":
            return DistributedDataParallel(model)
        for block in model.world.predictor.predictor_blocks:  # type: ignore[union-attr]
            fully_shard(block)  # type: ignore[arg-type]
        sharded: Any = fully_shard(model)
        return cast(nn.Module, sharded)

    @contextmanager
    def unsharded(self, engine: nn.Module) -> Iterator[None]:
        """Hold all weights whole, to call parts of a sharded model (validation)."""
        parts = [module for module in engine.modules() if isinstance(module, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        yield
        for part in parts:
            part.set_reshard_after_forward(part is not parts[0], recurse=False)
            part.reshard()

    def full_state(self, model: nn.Module) -> dict[str, Tensor]:
        """Whole weights of a model (on rank 0 when it is sharded); every rank must call."""
        if not self.many:
            return model.state_dict()
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return cast(dict[str, Tensor], get_model_state_dict(model, options=options))

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Mean over ranks of each value."""
        names = sorted(values)
        row = torch.stack([values[name].float() for name in names])
        if self.many:
            dist.all_reduce(row)
            row /= self.count
        return dict(zip(names, row.tolist(), strict=True))

    def store(self, out: Path) -> ShardedCheckpointStore:
        """Checkpoints that any number of ranks can go on from."""
        return ShardedCheckpointStore(out / "checkpoints", self.rank)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Name the ranks that no longer answer when a collective operation fails."""
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            if not self.many or isinstance(error, TrainingError):
                raise
            raise TrainingError(
                f"rank {self.rank} of {self.count} lost another rank: {error}. The run ends; start "
                "again with the same command, it goes on from the last checkpoint"
            ) from error

    def close(self) -> None:
        """Leave the process group."""
        if self.many:
            dist.barrier()
            dist.destroy_process_group()
