"""Distributed training under torchrun with DDP or FSDP2, with errors instead of hangs.

Tensors go through the default process group (NCCL on CUDA, gloo on a CPU), which gives up soon.
Everything that a process does alone while others wait, such as indexing, decoding or writing a
checkpoint, is waited for in a second group (gloo) with a long timeout. The end of a process is
noticed at once in both: gloo loses its connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import Store
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from worldmodel.checkpoints.loading import resolve_device
from worldmodel.errors import ConfigError, TrainingError, WorldModelError

T = TypeVar("T")
TIMEOUT = timedelta(seconds=45)
"""Timeout of the collective operations of a training step."""
JOINING = timedelta(minutes=10)
"""Timeout of waiting for all processes to start, which import PyTorch from slow disks at first."""
PATIENCE = timedelta(hours=4)
"""Timeout of waiting for what another process does alone, such as decoding a data set."""


@dataclass(frozen=True)
class Ranks:
    """Rank of this process among all processes of a run."""

    rank: int = 0
    count: int = 1
    own: torch.device | None = None
    """Device of this process in a process group; None without one."""
    patient: dist.ProcessGroup | None = None
    """Group with a long timeout, for objects and barriers."""

    @property
    def grouped(self) -> bool:
        """Return whether a process group exists, as with a single process under torchrun."""
        return dist.is_available() and dist.is_initialized()

    def device(self, device: str) -> torch.device:
        """Return this rank's device; without a process group, that of the option `device`."""
        return resolve_device(device) if self.own is None else self.own

    def barrier(self) -> None:
        """Wait for all ranks, for as long as the work of one rank alone may take."""
        if self.grouped:  # dist.barrier would use the CUDA device that the group is bound to
            dist.all_reduce(torch.zeros(1), group=self.patient)

    def wrap(
        self,
        model: nn.Module,
        kind: Literal["ddp", "fsdp"],
        blocks: Iterable[nn.Module],
        *,
        bf16: bool = False,
    ) -> nn.Module:
        """Return the module to call: the model wrapped in DDP, or sharded in place.

        Args:
            model: Module with all trained parameters.
            kind: `ddp` or `fsdp`.
            blocks: Submodules that FSDP shards separately.
            bf16: Whether the model computes in bfloat16; see `mixed_precision`.

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
        device = self.own or torch.device("cpu")
        if kind == "ddp":
            on_cuda = device.type == "cuda"
            return DistributedDataParallel(model, device_ids=[device] if on_cuda else None)
        mesh = init_device_mesh(device.type, (self.count,))
        policy = mixed_precision(device, bf16=bf16)
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        return cast(nn.Module, fully_shard(model, mesh=mesh, mp_policy=policy))

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

    def mean(
        self, values: Mapping[str, Tensor], own: Tensor | None = None
    ) -> tuple[dict[str, float], list[float]]:
        """Return the mean over ranks of each value; every rank must pass the same names.

        All is read from the device at once, so that the host waits for it once.

        Args:
            values: Numbers to average.
            own: Further numbers [N] float64 of this rank.

        Returns:
            Means by name, and the further numbers.
        """
        row = torch.stack([_whole(value).double() for value in values.values()])
        if self.count > 1:
            dist.all_reduce(row)
        row = row / self.count
        read = (row if own is None else torch.cat([row, own])).tolist()
        return dict(zip(values, read, strict=False)), read[len(values) :]

    def largest(self, number: int) -> int:
        """Return the largest of the ranks' numbers; every rank must call it."""
        if self.count == 1:
            return number
        box = torch.tensor(number)
        dist.all_reduce(box, dist.ReduceOp.MAX, self.patient)
        return int(box)

    def from_rank_0(self, value: T) -> T:
        """Return rank 0's value; every rank must call it."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]

    def from_all(self, value: T) -> list[T]:
        """Return the values of all ranks in order; every rank must call it."""
        found = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(found, value, self.patient)
        return found

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Convert the failure of a collective operation to an error that names this rank.

        Raises:
            TrainingError: A collective operation failed.
        """
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            if not self.grouped or isinstance(error, WorldModelError):
                raise
            raise TrainingError(
                f"Rank {self.rank} of {self.count} lost another rank: {error}. Start the same "
                "command again; it resumes from the last checkpoint"
            ) from error


def _whole(value: Tensor) -> Tensor:
    """Return a value that FSDP may have left as shards; then every rank must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def mixed_precision(device: torch.device, *, bf16: bool) -> MixedPrecisionPolicy:
    """Return FSDP's data types: on CUDA, gather weights in bfloat16 and reduce in float32.

    Autocast stays in effect, so that only the products and the gathered weights are bfloat16. On a
    CPU the weights are gathered in float32, and a run has the losses of a single process.
    """
    if not bf16 or device.type != "cuda":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


@contextmanager
def accumulating(engine: object, *, last: bool) -> Iterator[None]:
    """Exchange gradients only in the last micro-batch of a step.

    Args:
        engine: Result of `Ranks.wrap`.
        last: Whether the micro-batch inside the block is the step's last one.
    """
    if isinstance(engine, FSDPModule):
        engine.set_is_last_backward(last)
        engine.set_requires_gradient_sync(last)
    if isinstance(engine, DistributedDataParallel) and not last:
        with engine.no_sync():
            yield
    else:
        yield


def own_device(device: str, local_rank: int, count: int) -> torch.device:
    """Return the device of one process of a group, and make it the current CUDA device.

    Each process on a machine takes the CUDA device of its local rank, or starts again at the first
    one, if its scheduler shows each process only some of the machine's devices.

    Args:
        device: The option `device`: auto, cpu, cuda or cuda:N.
        local_rank: Index of the process on its machine.
        count: Number of processes of the run.

    Raises:
        ConfigError: The device is missing, or all processes would share one CUDA device.
    """
    found = resolve_device(device)
    if found.type != "cuda":
        return found
    if found.index is not None and count > 1:
        raise ConfigError(
            f"device={device} gives {count} processes one CUDA device: use device=cuda, which "
            "gives each process its own"
        )
    index = found.index if found.index is not None else local_rank % torch.cuda.device_count()
    own = torch.device("cuda", index)
    torch.cuda.set_device(own)
    return own


def _meet() -> tuple[Store, int, int]:
    """Wait until all processes have started; return their store, this rank and their number."""
    store, rank, count = next(rendezvous("env://", timeout=JOINING))
    if store.add("started", 1) == count:
        store.set("all started", "yes")
    store.wait(["all started"], JOINING)
    return store, rank, count


def _number_of_processes() -> int:
    """Return the number of processes that torchrun or a job started.

    Raises:
        ConfigError: Its environment variables are incomplete or no numbers.
    """
    names = ("WORLD_SIZE", "RANK", "MASTER_PORT")
    wrong = [name for name in names if not os.environ.get(name, "").isdecimal()]
    wrong += [] if os.environ.get("MASTER_ADDR") else ["MASTER_ADDR"]
    if wrong:
        raise ConfigError(
            f"WORLD_SIZE is set, as by torchrun, {', '.join(wrong)} missing or no number: start "
            "with torchrun, or unset WORLD_SIZE"
        )
    return int(os.environ["WORLD_SIZE"])


@contextmanager
def process_group(device: str = "auto") -> Iterator[Ranks]:
    """Join the process group of torchrun or a job, if there is one.

    Args:
        device: The option `device` of the run.

    Raises:
        ConfigError: See `own_device` and `_number_of_processes`.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    own = own_device(device, local_rank, _number_of_processes())
    on_cuda = own.type == "cuda"
    store, rank, count = _meet()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_cuda else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=TIMEOUT,
        device_id=own if on_cuda else None,
    )
    ranks = Ranks(rank, count, own, dist.new_group(timeout=PATIENCE, backend="gloo"))
    yield ranks
    ranks.barrier()
    dist.destroy_process_group()
