"""Benchmark attention kernels on a CUDA device and select the fastest.

Shapes: B batch, H heads, L tokens, C channels of a head.
"""

from __future__ import annotations

import torch
from torch import nn

from worldmodel.errors import ConfigError
from worldmodel.models.attention import Backend, attend, set_backend

CANDIDATES: tuple[Backend, ...] = ("sdpa", "cudnn", "flash")


def _milliseconds(backend: Backend, shape: tuple[int, int, int, int], dtype: torch.dtype) -> float:
    q, k, v = torch.randn(3, *shape, device="cuda", dtype=dtype).unbind(0)
    for _ in range(3):
        attend(q, k, v, None, backend)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(10):
        attend(q, k, v, None, backend)
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 10


@torch.no_grad()
def choose_backend(
    model: nn.Module, shape_BHLC: tuple[int, int, int, int], dtype: torch.dtype
) -> dict[Backend, float]:
    """Set the fastest attention backend at a shape on a CUDA model.

    Returns:
        Milliseconds of each available kernel, fastest first; the model then uses that one.

    Raises:
        ConfigError: The model is not on a CUDA device; on a CPU `auto` selects by sequence length.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        raise ConfigError(f"The model is on {device}: attention is measured on CUDA; use auto here")
    took: dict[Backend, float] = {}
    for backend in CANDIDATES:
        try:
            took[backend] = _milliseconds(backend, shape_BHLC, dtype)
        except (ConfigError, RuntimeError):  # not installed, or no kernel for this shape and type
            continue
    ordered = dict(sorted(took.items(), key=lambda item: item[1]))
    set_backend(model, next(iter(ordered)))
    return ordered
