"""One process or many under torchrun: DDP or FSDP2, one checkpoint, no hang when a rank dies.

Checkpoints go through torch.distributed.checkpoint: a run saved on N ranks is resumed on M.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from worldmodel.errors import TrainingError

log = logging.getLogger(__name__)
PATIENCE = timedelta(seconds=45)
"""A rank that does not answer for so long is given up."""


class ShardedStore:
    """Checkpoints of many ranks: a folder a step, complete when its `whole.json` is there."""

    def __init__(self, folder: Path, rank: int, keep: int = 2) -> None:
        self.folder, self.rank, self.keep = folder, rank, keep

    def _whole(self) -> list[Path]:
        return sorted(p.parent for p in self.folder.glob("dcp-*/whole.json"))

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a step; rank 0 marks it whole when every rank has written."""
        path = self.folder / f"dcp-{step:08d}"
        if self.rank == 0:
            shutil.rmtree(path, ignore_errors=True)
        dist.barrier()
        weights, moments = get_state_dict(model, optimizer)
        save_sharded({"model": weights, "optimizer": moments}, checkpoint_id=str(path))
        dist.barrier()
        if self.rank == 0:
            (path / "whole.json").write_text(json.dumps({"step": step}), encoding="utf-8")
            for old in self._whole()[: -self.keep]:
                shutil.rmtree(old)
        dist.barrier()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest whole step, whatever number of ranks wrote it; 0 when there is none."""
        paths = self._whole()
        if not paths:
            return 0
        weights, moments = get_state_dict(model, optimizer)
        state: dict[str, Any] = {"model": weights, "optimizer": moments}
        load_sharded(state, checkpoint_id=str(paths[-1]))
        set_state_dict(
            model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )
        return int(json.loads((paths[-1] / "whole.json").read_text(encoding="utf-8"))["step"])


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
        """Hold the root's own weights whole, to call parts of a sharded model."""
        sharded: Any = engine if isinstance(engine, FSDPModule) else None
        if sharded is not None:
            sharded.unshard()
        yield
        if sharded is not None:
            sharded.reshard()

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

    def store(self, out: Path) -> ShardedStore | None:
        """Checkpoints for many ranks; None: the single process's own."""
        return ShardedStore(out / "checkpoints", self.rank) if self.many else None

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
