"""CPU linear layers that use the faster of torch's two matrix libraries.

For float32, torch's `linear` calls MKL, which takes a slow path on processors not made by Intel: on
an AMD EPYC, oneDNN, which torch also ships, is 2.2 times as fast (`benchmarks/encoder.py`). The
choice depends on the processor's vendor, not on a timing, so that runs are bit-identical.

For bfloat16, torch's `linear` calls oneDNN too, but first copies the bias into every row of the
result. The operator that torch's compiler uses adds it (and applies GELU) inside the product.

Shapes: M rows, I inputs, O outputs.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST_ROWS, FEWEST_INPUTS = 8, 16
"""With fewer rows or inputs the call overhead dominates, and MKL's is smaller."""


@lru_cache(maxsize=1)
def _maker() -> str:
    facts = Path("/proc/cpuinfo")
    if not facts.is_file():
        return platform.processor()
    lines = facts.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


@lru_cache(maxsize=1)
def prefers_onednn() -> bool:
    """Return whether float32 products are faster by oneDNN than by MKL on this machine."""
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
    """Return torch's oneDNN linear with a fused activation, or None if torch lacks it."""
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _can_use_onednn(x: Tensor, weight: Tensor) -> bool:
    # oneDNN reorders strided weights element by element, so only contiguous ones are fast
    return (
        x.dtype == weight.dtype
        and x.device.type == "cpu"
        and weight.is_contiguous()
        and x.shape[-1] >= FEWEST_INPUTS
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.compiler.is_compiling()
        and _is_faster(x.dtype)
    )


def _is_faster(dtype: torch.dtype) -> bool:
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != dtype:
        return False
    if dtype == torch.bfloat16:
        return _bfloat16_is_native()
    return dtype == torch.float32 and prefers_onednn()


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Compute `x @ weight.T + bias` for x [..., I], as `torch.nn.functional.linear` does."""
    if _can_use_onednn(x, weight_OI):
        out: Tensor = _pointwise()(x, weight_OI, bias_O, "none", [], "")
        return out
    return F.linear(x, weight_OI, bias_O)


def linear_gelu(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Compute `gelu(x @ weight.T + bias)` with the exact GELU, in one pass where possible."""
    if _can_use_onednn(x, weight_OI):
        out: Tensor = _pointwise()(x, weight_OI, bias_O, "gelu", [], "none")
        return out
    return F.gelu(F.linear(x, weight_OI, bias_O))
