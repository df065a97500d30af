"""Work of the ranks of a small gloo group, in processes that begin in milliseconds."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from fast_process import CONTEXT, finish
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from worldmodel.training import distributed
from worldmodel.training.distributed import accumulating, process_group

MICRO, CLIPS = 4, 3
"""Micro-batches of a step, and clips of a rank's micro-batch."""


def run(work, out: Path, *args, ranks: int = 2) -> list:
    """Run `work(ranks, out, *args)` in each rank; returns what they returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = [
        CONTEXT.Process(target=_enter, args=(work, rank, ranks, port, out, args))
        for rank in range(ranks)
    ]
    for child in children:
        child.start()
    assert finish(children) == [0] * ranks
    return [torch.load(out / f"rank-{rank}.pt", weights_only=False) for rank in range(ranks)]


def _enter(work, rank, count, port, out, args):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    torch.save(work(out, *args), out / f"rank-{rank}.pt")


def whole_numbers(seed: int, *shape: int) -> torch.Tensor:
    """Numbers whose products and sums are exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=generator).float()


def model() -> nn.Module:
    """A model whose gradients are whole numbers."""
    net = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    with torch.no_grad():
        for i, weight in enumerate(net.parameters()):
            weight.copy_(whole_numbers(i, *weight.shape))
    return net


def clips(rank: int, micro: int) -> torch.Tensor:
    return whole_numbers(100 + 10 * rank + micro, CLIPS, 6)


def gradients(_, kind: str, always: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a step of several micro-batches, and how often buckets were exchanged."""
    exchanged = []
    with process_group("cpu") as ranks:
        net = model()
        engine = ranks.wrap(net, kind, list(net))
        if kind == "ddp":

            def count(state, bucket):
                exchanged.append(bucket.index())
                return allreduce_hook(state, bucket)

            engine.register_comm_hook(None, count)
        for micro in range(MICRO):
            with accumulating(engine, last=always or micro + 1 == MICRO):
                engine(clips(ranks.rank, micro)).sum().backward()
        found = {name: weight.grad for name, weight in net.named_parameters()}
        found = {n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in found.items()}
    return found, len(exchanged)


def objects(_) -> tuple:
    """What the ranks agree on, while rank 0 is away for longer than a step's timeout."""
    distributed.TIMEOUT = timedelta(seconds=1)
    with process_group("cpu") as ranks:
        if ranks.rank == 0:
            time.sleep(2.5)
        ranks.barrier()
        mine = 10.0 + ranks.rank
        further = torch.tensor([mine], dtype=torch.float64)
        means, kept = ranks.mean({"b": torch.tensor(mine), "a": torch.tensor(1.0)}, further)
        assert kept == [mine]
        said = ranks.from_rank_0(mine), ranks.from_all(mine), ranks.largest(ranks.rank), means
        own = ranks.own, ranks.device("cuda"), dist.get_backend(), dist.get_backend(ranks.patient)
    return said, own


def late(_) -> list[int]:
    """The ranks of a group whose first one starts later than a step's timeout."""
    distributed.TIMEOUT = timedelta(seconds=1)
    if os.environ["RANK"] == "0":
        time.sleep(2.5)
    with process_group("cpu") as ranks:
        return ranks.from_all(ranks.rank)


def impatient(_) -> str:
    """What ends the wait for another rank in a step's own group."""
    distributed.TIMEOUT = timedelta(seconds=1)
    with process_group("cpu") as ranks:
        try:
            if ranks.rank:
                dist.barrier()
            else:
                time.sleep(2.5)
        except RuntimeError as error:
            return str(error)
        finally:
            ranks.barrier()
    return ""


def low_precision_step(_, bf16: bool) -> tuple[float, set, torch.Tensor]:
    """Loss, data types in the forward pass, and gradient of a sharded model under autocast."""
    if bf16:  # as on CUDA
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        distributed.mixed_precision = lambda *_, **__: policy
    with process_group("cpu") as ranks:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.Linear(64, 8))
        seen = set()
        for part in net:
            part.register_forward_hook(lambda part, *_: seen.add(part.weight.dtype))
        engine = ranks.wrap(net, "fsdp", list(net), bf16=bf16)
        x = torch.randn(16, 32, generator=torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16):
            loss = engine(x).float().square().mean()
        loss.backward()
        grad = net[0].weight.grad.full_tensor()
    return float(loss.detach()), seen, grad
