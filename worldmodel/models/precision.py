"""Where models compute in bfloat16: the one place that decides for every command and training.

Weights and activations of the networks may be bfloat16. Poses, scales, pixel statistics, object
poses, energies and the statistics of layer norms stay float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self, get_args

import torch
from torch import Tensor, nn

from worldmodel.errors import ConfigError
from worldmodel.specs import Precision


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the data type of the weights on a device.

    `auto` is bfloat16 on CUDA devices that multiply it natively, and float32 elsewhere: on a CPU
    the same command then gives the same numbers whatever its instructions.

    Raises:
        ConfigError: The precision is unknown.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision={precision!r}: use {', '.join(get_args(Precision))}")
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def use_precision(
    networks: Iterable[nn.Module], precision: Precision, device: torch.device
) -> torch.dtype:
    """Convert networks to the data type of `resolve_precision`, and return it.

    In bfloat16 on CUDA, the products of what stays float32 use TensorFloat-32 from then on.
    """
    dtype = resolve_precision(precision, device)
    if dtype == torch.bfloat16:
        for network in networks:
            network.to(dtype)
        allow_tf32(device)
    return dtype


def allow_tf32(device: torch.device) -> None:
    """Let float32 products of a CUDA device use TensorFloat-32; other devices are left alone."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def autocast(device: torch.device, *, bf16: bool, weights: torch.dtype) -> torch.autocast:
    """Return bfloat16 autocast for float32 weights; it changes nothing for bfloat16 weights.

    Args:
        device: Device of the weights.
        bf16: Whether to compute in bfloat16.
        weights: Data type of the weights.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and weights == torch.float32)


Convert = Callable[[Tensor], Tensor]


def _kept(convert: Convert) -> Convert:
    """Return the part of a conversion that moves a tensor and leaves its data type."""

    def kept(tensor: Tensor) -> Tensor:
        new = convert(tensor)
        return new if new.dtype == tensor.dtype else tensor.to(new.device)

    return kept


class Float32Buffers(nn.Module):
    """Module whose own buffers keep their data type in `bfloat16()`, `half()` and `to(dtype)`."""

    def _apply(self, fn: Convert, recurse: bool = True) -> Self:
        own = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        for name, buffer in own.items():
            if buffer is not None:
                self._buffers[name] = _kept(fn)(buffer)
        return self


class Float32Module(nn.Module):
    """Module that keeps the data type of all its weights in such conversions."""

    def _apply(self, fn: Convert, recurse: bool = True) -> Self:
        return super()._apply(_kept(fn), recurse)  # type: ignore[no-untyped-call]  # torch's
