"""Linear layers on a CPU, by the faster of torch's two matrix libraries.

Torch's `linear` calls MKL for float32. MKL takes a slow path on processors that are not Intel's:
on an AMD EPYC oneDNN, which torch also ships, is 2.2 times as fast (`benchmarks/encoder.py`). The
choice is by the processor's maker and not by a stopwatch, so that two runs give the same bits.

For bfloat16 torch's `linear` calls oneDNN too, but first copies the bias into every row of the
result. The call that torch's compiler uses adds it (and GELU) in the product itself.

Shapes: M rows, I inputs, O outputs.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEWEST_ROWS = 8
"""With fewer rows the call itself is the cost, and MKL's is lighter."""


@lru_cache(maxsize=1)
def _maker() -> str:
    facts = Path("/proc/cpuinfo")
    if not facts.is_file():
        return platform.processor()
    lines = facts.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


_ALLOWED: ContextVar[bool] = ContextVar("onednn_allowed", default=True)


@contextmanager
def torch_products() -> Iterator[None]:
    """Inside, products are torch's own choice: what others' code gets (for benchmarks)."""
    token = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def prefers_onednn() -> bool:
    """Whether this machine's float32 products are faster by oneDNN than by MKL."""
    return _ALLOWED.get() and _onednn_is_faster()


@lru_cache(maxsize=1)
def _onednn_is_faster() -> bool:
    return (
        "AuthenticAMD" in _maker()
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and _pointwise() is not None
    )


@lru_cache(maxsize=1)
def _bfloat16_is_native() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and _pointwise() is not None
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
    )


@lru_cache(maxsize=1)
def _pointwise() -> Any:
    """Torch's oneDNN linear with a fused activation, which its compiler uses; None without it."""
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _suits(x: Tensor, weight: Tensor) -> bool:
    # oneDNN re-orders strided weights one number at a time: contiguous ones only
    return (
        x.dtype == weight.dtype
        and x.device.type == "cpu"
        and weight.is_contiguous()
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.compiler.is_compiling()
        and _is_faster(x.dtype)
    )


def _is_faster(dtype: torch.dtype) -> bool:
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != dtype:
        return False
    if dtype == torch.bfloat16:
        return _ALLOWED.get() and _bfloat16_is_native()
    return dtype == torch.float32 and prefers_onednn()


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` for x [..., I], as `torch.nn.functional.linear`."""
    if _suits(x, weight_OI):
        out: Tensor = _pointwise()(x, weight_OI, bias_O, "none", [], "")
        return out
    return F.linear(x, weight_OI, bias_O)


def linear_gelu(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`gelu(x @ weight.T + bias)`, exact GELU, in one pass where that is possible."""
    if _suits(x, weight_OI):
        out: Tensor = _pointwise()(x, weight_OI, bias_O, "gelu", [], "none")
        return out
    return F.gelu(F.linear(x, weight_OI, bias_O))


class Linear(nn.Linear):
    """`nn.Linear` that takes the faster library."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        return linear(x, self.weight, self.bias)
