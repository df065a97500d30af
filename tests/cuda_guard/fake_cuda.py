"""A make-believe CUDA device: CPU tensors are real, CUDA tensors have shapes but no numbers.

A dispatch mode sends every operation with a CUDA tensor to torch's `FakeTensorMode`, which knows
devices and shapes, and records in a `Ledger` what would stop the host. What a host reads from the
device is made up: True, 0, 0.5. Everything runs in one thread, since modes belong to threads.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cuda_guard.fake_streams import Event, Stream, Streams
from tests.cuda_guard.ledger import Ledger, nbytes
from worldmodel.models import fastest
from worldmodel.models.fastest import Fastest
from worldmodel.models.rope import ROTATE

aten = torch.ops.aten
MEMORY = 80 * 2**30
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


FAKE = FakeTensorMode(allow_fallback_kernels=False)
"""One mode for all cases, since the product keeps tensors (tables, limits) from case to case."""


class MixedDevicesError(RuntimeError):
    """An operation had operands on the CPU and on the CUDA device."""


def tensors_of(values: object) -> list[Tensor]:
    """Return the tensors in nested lists, tuples and dicts; torch's own function is slower."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in tensors_of(value)]


def mapped(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested lists, tuples and dicts with every tensor changed."""
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, dict):
        return {name: mapped(value, change) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(mapped(value, change) for value in values)
    return values


def made_up(like: Tensor) -> Tensor:
    """Return a real CPU tensor in place of numbers that a device would have computed."""
    value = True if like.dtype == torch.bool else 0.5 if like.is_floating_point() else 0
    return torch.full(like.shape, value, dtype=like.dtype)


class FakeCuda(TorchDispatchMode):
    """Runs operations with CUDA tensors without their arithmetic."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger, self.fake, self.streams = ledger, FAKE, Streams(ledger)
        self.pinned: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = tensors_of((args, kwargs))
        device = kwargs.get("device")
        makes = device is not None and torch.device(device).type == "cuda"
        if not makes and not any(isinstance(t, FakeTensor) for t in tensors):
            return func(*args, **kwargs)
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        if func is aten._local_scalar_dense.default:
            self.ledger.wait("item")
            return made_up(args[0]).item()
        if func is aten.equal.default:
            self.ledger.wait("equal")
            return True
        if func in COPIES:
            return self._copy(func, args, kwargs)
        self._check(func, tensors)
        return self._run(func, args, kwargs)

    def _copy(self, func, args, kwargs):
        target = args[0] if func is aten.copy_.default else None
        source = args[0] if target is None else args[1]
        device = torch.device(kwargs.get("device") or source.device) if target is None else None
        to_cuda = (device or target.device).type == "cuda"
        from_cuda = source.device.type == "cuda"
        if from_cuda and not to_cuda:
            self.ledger.wait("copy to the host")
            if target is not None:
                return target.copy_(made_up(target))
            return made_up(source).to(kwargs.get("dtype") or source.dtype)
        if to_cuda and not from_cuda:
            where = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
            quick = where and source.untyped_storage().data_ptr() in self.pinned
            if target is None or source.ndim:  # a number is an argument of the kernel that fills
                kind = "pinned" if quick else "pageable"
                self.ledger.upload(kind + self.streams.beside())
        return self._run(func, args, kwargs)

    def _check(self, func, tensors: list[Tensor]) -> None:
        outside = [t for t in tensors if t.device.type == "cpu" and t.ndim]
        if not outside:
            return
        if func in INDEXING:
            self.ledger.upload("index")
            return
        shapes = [(str(t.device), tuple(t.shape)) for t in tensors]
        raise MixedDevicesError(f"{func} has operands on two devices: {shapes}")

    def _run(self, func, args, kwargs):
        def lift(tensor: Tensor) -> Tensor:
            if isinstance(tensor, FakeTensor):
                return tensor
            return self.fake.from_tensor(tensor.detach(), static_shapes=True)

        operands = tensors_of((args, kwargs))
        self.streams.require_order(func, operands)
        args, kwargs = mapped((args, kwargs), lift)
        with self.fake:
            out = func(*args, **kwargs)
        self.streams.made(operands, tensors_of(out))
        self.ledger.moved(func, tensors_of((args, kwargs)), tensors_of(out))
        return out


def _attention(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return torch's attention with the kernels that it would choose on CUDA."""

    def attend(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, **more):
        if q.device.type != "cuda":
            return plain(q, k, v, attn_mask, dropout_p, is_causal, **more)
        if torch.is_autocast_enabled("cuda"):
            q, k, v = (x.to(torch.get_autocast_dtype("cuda")) for x in (q, k, v))
        if attn_mask is None and q.dtype != torch.float32:
            return aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal)[0]
        bias = None
        if attn_mask is not None:
            bias = torch.zeros(attn_mask.shape, dtype=q.dtype, device=q.device)
            bias = bias.masked_fill(~attn_mask, -torch.inf)
            bias = bias.expand(*q.shape[:2], q.shape[2], k.shape[2])
        grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        found = aten._scaled_dot_product_efficient_attention(q, k, v, bias, grad, dropout_p)
        return found[0]

    return attend


class _Now:
    """Runs what is submitted at once, in this thread."""

    def __init__(self, *_, **__) -> None:
        pass

    def submit(self, function, *args) -> Future:
        done: Future = Future()
        done.set_result(function(*args))
        return done

    def shutdown(self, **_) -> None:
        pass


def _one_kernel(ledger: Ledger) -> Callable[..., Any]:
    """Return a `Fastest.faster` that takes the fast function and counts it as one kernel."""

    def faster(fastest: Fastest, *_, **__) -> Callable[..., Tensor]:
        def run(*args, **kwargs) -> Tensor:
            if torch.is_grad_enabled():
                return fastest.plain(*args, **kwargs)
            ledger.counts = False
            out = fastest.plain(*args, **kwargs)
            ledger.counts = True
            name = f"one kernel: {fastest.plain.__name__}"
            ledger.bytes[name] += sum(map(nbytes, tensors_of((args, kwargs, out))))
            return out

        return run

    return faster


class _Graph:
    """A graph whose replays are counted."""

    def __init__(self, ledger: Ledger, *_, **__) -> None:
        self.ledger = ledger

    def replay(self) -> None:
        self.ledger.replays += 1


@contextlib.contextmanager
def _graph(ledger: Ledger, *_, **__) -> Iterator[None]:
    assert not ledger.is_capturing
    ledger.is_capturing, ledger.captures = True, ledger.captures + 1
    try:
        yield
    finally:
        ledger.is_capturing = False


def _cuda_names(ledger: Ledger, streams: Streams) -> dict[str, Any]:
    """Return what `torch.cuda` answers."""
    facts = types.SimpleNamespace(
        name="make-believe", total_memory=MEMORY, multi_processor_count=132, major=9, minor=0
    )
    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "device": lambda _: contextlib.nullcontext(),
        "is_bf16_supported": lambda *_, **__: True,
        "mem_get_info": lambda *_: (MEMORY // 2, MEMORY),
        "memory_allocated": lambda *_: 0,
        "memory_reserved": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "get_device_name": lambda *_: facts.name,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: facts,
        "synchronize": lambda *_: ledger.wait("synchronise"),
        "manual_seed": lambda _: None,
        "manual_seed_all": lambda _: None,
        "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
        "get_rng_state_all": lambda: [torch.zeros(16, dtype=torch.uint8)],
        "set_rng_state": lambda *_: None,
        "set_rng_state_all": lambda _: None,
        "Stream": lambda *_, **__: Stream(streams),
        "Event": lambda *_, **__: Event(streams),
        "current_stream": lambda *_: streams.current,
        "stream": streams.on,
        "graph_pool_handle": lambda: (0, 0),
        "CUDAGraph": partial(_Graph, ledger),
        "graph": partial(_graph, ledger),
        "is_current_stream_capturing": lambda: ledger.is_capturing,
    }


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True):
    """Change parameters and buffers; torch's own function cannot replace make-believe ones."""
    for child in module.children() if recurse else ():
        child._apply(change)
    for name, value in module._parameters.items():
        if value is not None:
            module._parameters[name] = nn.Parameter(change(value.detach()), value.requires_grad)
    for name, value in module._buffers.items():
        module._buffers[name] = None if value is None else change(value)
    return module


@contextlib.contextmanager
def fake_cuda(ledger: Ledger) -> Iterator[FakeCuda]:
    """Make torch believe in one CUDA device until the block ends."""
    mode = FakeCuda(ledger)

    def pin(tensor: Tensor, *_, **__) -> Tensor:
        mode.pinned.add(tensor.untyped_storage().data_ptr())
        return tensor

    def tolist(tensor: FakeTensor) -> Any:
        return tensor.cpu().tolist()

    with contextlib.ExitStack() as stack:
        for name, value in _cuda_names(ledger, mode.streams).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        for owner, name, value in (
            (Tensor, "pin_memory", pin),
            (Tensor, "record_stream", lambda *args: mode.streams.record(*args)),
            (FakeTensor, "tolist", tolist),
            (nn.Module, "_apply", _apply),
            (Fastest, "faster", _one_kernel(ledger)),
            (fastest, "LEAST", 1),
            (F, "scaled_dot_product_attention", _attention(F.scaled_dot_product_attention)),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        native = [*optimizer._foreach_supported_types, FakeTensor]
        stack.enter_context(mock.patch.object(optimizer, "_foreach_supported_types", native))
        stack.enter_context(mock.patch("worldmodel.training.batches.ThreadPoolExecutor", _Now))
        before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(ROTATE.chosen.clear)
        stack.callback(torch._C._set_only_lift_cpu_tensors, before)
        stack.enter_context(mode)
        yield mode
