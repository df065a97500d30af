"""Faults that the code once had, or nearly had: the guard must see each when it is put back.

A fault is put back while one of the guard's cases runs on the make-believe device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn

from planning.solvers.device_cem import DeviceCEM
from worldmodel.models.layers import LayerNorm
from worldmodel.models.rope import rotate
from worldmodel.training.batches import Batch, Read
from worldmodel.training.distributed import Ranks


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and where it shows."""

    about: str
    """What the code does, in words."""
    case: str
    """Case of the guard in which it does so."""
    guard: str
    """Name of the guard that must fail: a function of `tests.cuda_guard.guards`."""
    put_back: Callable[[], AbstractContextManager[object]]
    """Returns a context in which the code has the fault."""


def _from_host(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)


def _pageable(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device)


def _left_on_cpu(tensor: Tensor, _: torch.device) -> Tensor:
    return tensor


def _read_one_by_one(
    ranks: Ranks, values: Mapping[str, Tensor], own: Tensor | None = None
) -> tuple[dict[str, float], list[float]]:
    return {k: float(v) for k, v in values.items()}, [] if own is None else own.tolist()


def _new_search(optimiser, kind, make, problems):  # type: ignore[no-untyped-def]
    found = make()
    found.begin(*problems)
    return found


def _not_waited(read: Read, _: torch.device) -> Batch:
    return read.batch


def _not_recorded(read: Read, device: torch.device) -> Batch:
    if read.done is not None:
        torch.cuda.current_stream(device).wait_event(read.done)
    return read.batch


_ROTARY = partial(mock.patch, "worldmodel.models.rope.ROTATE", rotate)
_NORM = partial(mock.patch.object, LayerNorm, "forward", nn.LayerNorm.forward)


@contextmanager
def _rotary_and_norm() -> Iterator[None]:
    with _ROTARY(), _NORM():
        yield


FAULTS = {
    "rotary_apart": Fault(
        about="the rotary embedding by separate operators",
        case="moved_bf16",
        guard="moves_few_bytes",
        put_back=_ROTARY,
    ),
    "norm_in_float32": Fault(
        about="layer norms through float32 in memory, under autocast",
        case="moved_autocast",
        guard="moves_few_bytes",
        put_back=_NORM,
    ),
    "rotary_and_norm": Fault(
        about="both", case="moved_autocast", guard="moves_few_bytes", put_back=_rotary_and_norm
    ),
    "tables_from_host": Fault(
        about="rotary tables from numbers of the host in each step",
        case="train_pretrain",
        guard="waits_in_steps_where_allowed",
        put_back=partial(mock.patch, "worldmodel.models.rope.constant", _from_host),
    ),
    "batch_not_pinned": Fault(
        about="batches copied from pageable memory",
        case="train_frozen",
        guard="waits_in_steps_where_allowed",
        put_back=partial(mock.patch, "worldmodel.training.batches.sent", _pageable),
    ),
    "losses_one_by_one": Fault(
        about="each part of the loss read by itself",
        case="train_joint_logged",
        guard="waits_in_steps_where_allowed",
        put_back=partial(mock.patch.object, Ranks, "mean", _read_one_by_one),
    ),
    "batch_on_cpu": Fault(
        about="a batch left on the CPU",
        case="train_frozen",
        guard="runs_to_its_end",
        put_back=partial(mock.patch, "worldmodel.training.batches.sent", _left_on_cpu),
    ),
    "batch_not_waited": Fault(
        about="a step that does not wait for the stream of its batch",
        case="train_frozen",
        guard="runs_to_its_end",
        put_back=partial(mock.patch.object, Read, "on", _not_waited),
    ),
    "batch_not_recorded": Fault(
        about="a batch freed while the step's stream uses it",
        case="train_frozen",
        guard="frees_nothing_early",
        put_back=partial(mock.patch.object, Read, "on", _not_recorded),
    ),
    "graph_anew": Fault(
        about="a graph captured anew in every search",
        case="captured",
        guard="replays_later_plans",
        put_back=partial(mock.patch.object, DeviceCEM, "_kept", _new_search),
    ),
    "read_in_capture": Fault(
        about="energies checked by the host inside a captured iteration",
        case="captured",
        guard="never_waits_in_a_capture",
        put_back=partial(mock.patch, "planning.energy._is_capturing", lambda: False),
    ),
}
"""Name -> fault."""
