"""Multi-head attention with rotary embedding, key-value cache and selectable backend.

Shapes: B batch, L queries, M keys, H heads, C channels of a head, D width.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from importlib import import_module
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from worldmodel.errors import ConfigError
from worldmodel.models.frame_mask import ATTEND, FrameMask
from worldmodel.models.merged_attention import attend_merged, can_merge
from worldmodel.models.rope import Tables, rotate_pair

log = logging.getLogger(__name__)
Backend = Literal["auto", "sdpa", "cudnn", "flash", "plain"]
Cache = tuple[Tensor, Tensor]
Mask = Tensor | FrameMask
Projected = tuple[Tensor, Tensor, Tensor]
Module = TypeVar("Module", bound=nn.Module)
_KNOWN = ", ".join(get_args(Backend))

PLAIN_LENGTH = 256
"""Maximum number of keys for which `auto` uses plain attention on a CPU: for gradients in 16 bits.

There, torch's fused attention takes 2 (256 keys) to 8 times (16 keys) the time of plain products.
Without gradients, and in float32, it takes 0.4 times their time to the same, at every length.
Beyond this length, plain scores would also take more memory than a block's other results.
`benchmarks/attention_cpu.py` measures it.
"""


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask | None = None, backend: Backend = "auto"
) -> Tensor:
    """Compute scaled dot-product attention of queries to keys and values.

    Args:
        q: Queries [B, H, L, C].
        k: Keys [B, H, M, C].
        v: Values [B, H, M, C].
        mask: bool [L, M], True where a query may attend, or frames; not with the flash backend.
        backend: sdpa, cudnn (CUDA only), flash (package flash-attn, CUDA only), plain, or auto.

    Returns:
        [B, H, L, C].

    Raises:
        ConfigError: The backend is unknown, or cannot run on these inputs.
    """
    if isinstance(mask, FrameMask):
        if backend in ("auto", "sdpa") and q.device.type == "cuda":
            return ATTEND(q, k, v, mask)
        mask = mask.dense
    if backend == "auto":
        backend = "plain" if _is_plain_faster(q, k, v) else "sdpa"
    if backend == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if backend == "plain":
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=-1).to(v.dtype) @ v
    if backend == "flash":
        return _flash(q, k, v, mask)
    if backend == "cudnn":
        return _cudnn(q, k, v, mask)
    raise ConfigError(f"Unknown attention backend {backend!r}; known: {_KNOWN}")


def _is_plain_faster(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether plain products are faster than torch's fused attention, see `PLAIN_LENGTH`."""
    return (
        q.device.type == "cpu"
        and k.shape[2] <= PLAIN_LENGTH
        and q.element_size() == 2
        and torch.is_grad_enabled()
        and (q.requires_grad or k.requires_grad or v.requires_grad)
    )


def _cudnn(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if q.device.type != "cuda" or q.dtype == torch.float32:
        raise ConfigError("cudnn attention needs CUDA and bf16 or fp16: use backend=sdpa here")
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _flash(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None or q.device.type != "cuda" or q.dtype == torch.float32:
        raise ConfigError("flash needs CUDA, bf16 or fp16, and no mask: use backend=sdpa here")
    found = _flash_function()(*(x.transpose(1, 2) for x in (q, k, v)))
    out: Tensor = found[0] if isinstance(found, tuple) else found  # some versions add the log-sum
    return out.transpose(1, 2)


@functools.cache
def _flash_function() -> Callable[..., Tensor | tuple[Tensor, ...]]:
    """Return flash-attn's function: version 3 on Hopper GPUs if it is installed, else version 2.

    Raises:
        ConfigError: Neither is installed.
    """
    hopper = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
    for name in ("flash_attn_interface", "flash_attn") if hopper else ("flash_attn",):
        try:
            found: Callable[..., Tensor] = import_module(name).flash_attn_func
        except ImportError:
            continue
        return found
    raise ConfigError("flash-attn is not installed: pip install 'worldmodel[flash]'")


def attend_or_fall_back(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, backend: Backend
) -> Tensor:
    """Compute `attend`; where cudnn or flash cannot run, use sdpa and say so once.

    Raises:
        OutOfMemoryError: The device has too little memory for the backend.
    """
    if backend not in ("cudnn", "flash"):
        return attend(q, k, v, mask, backend)
    try:
        return attend(q, k, v, mask, backend)
    except torch.OutOfMemoryError:
        raise
    except (ConfigError, RuntimeError) as error:
        _say_once(backend, str(error).splitlines()[0])
        return attend(q, k, v, mask, "sdpa")


@functools.cache
def _say_once(backend: Backend, reason: str) -> None:
    log.warning("attention falls back from %s to sdpa: %s", backend, reason)


def set_backend(model: Module, backend: Backend) -> Module:
    """Set the backend of every attention module of a model; return the model.

    Raises:
        ConfigError: The backend is unknown.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"Unknown attention backend {backend!r}; known: {_KNOWN}")
    for part in model.modules():
        if isinstance(part, Attention | CrossAttention):
            part.backend = backend
    return model


def append(past: Cache, new: Cache) -> Cache:
    """Concatenate keys and values along the token axis; a `past` of batch 1 is repeated."""
    k, v = (
        torch.cat([old.expand(len(now), -1, -1, -1), now], dim=2)
        for old, now in zip(past, new, strict=True)
    )
    return k, v


class Attention(nn.Module):
    """Multi-head self-attention with rotary embedding and an optional key-value cache."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.backend: Backend = "auto"

    def rotate(self, qk_BL2HC: Tensor, rope: Tables) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys; return each as [B, H, L, C]."""
        return rotate_pair(qk_BL2HC, rope)

    def attend(
        self, q: Tensor, own: Cache, mask: Mask | None = None, shared: Cache | None = None
    ) -> Tensor:
        """Attend to `own` keys and values, and to `shared` ones [1, H, S, C] before them."""
        if shared is not None and mask is None and q.device.type == "cuda" and can_merge(q):
            return attend_merged(q, own, shared)
        k, v = own if shared is None else append(shared, own)
        return attend_or_fall_back(q, k, v, mask, self.backend)

    def project(self, x: Tensor, rope: Tables | None) -> Projected:
        """Compute queries, keys (both rotated) and values of x [B, L, D], each [B, H, L, C]."""
        qkv_BL3HC = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        if rope is None:
            q, k, v = qkv_BL3HC.permute(2, 0, 3, 1, 4)
        else:
            # one split: the gradient of two slices would be two arrays of all three, and their sum
            qk_BL2HC, v_BL1HC = qkv_BL3HC.split((2, 1), dim=2)
            v = v_BL1HC.squeeze(2).transpose(1, 2)
            q, k = self.rotate(qk_BL2HC, rope)
        return q, k, v

    def mix(
        self,
        projected: Projected,
        mask: Mask | None = None,
        past: Cache | None = None,
        keep: int | None = None,
        shared: Cache | None = None,
    ) -> tuple[Tensor, Cache]:
        """Attend and project the result.

        Args:
            projected: Result of `project`.
            mask: bool [L, M], True where a query may attend, or frames.
            past: Keys and values of earlier frames, batch B or 1.
            keep: Number of last tokens to compute an output for.
            shared: Keys and values, batch 1, of frames before `past`; excludes a mask.

        Returns:
            Output [B, L or keep, D], and all keys and values so far, excluding `shared`.
        """
        q, k, v = projected
        if keep is not None:
            q = q[:, :, -keep:]
        own = (k, v) if past is None else append(past, (k, v))
        out = self.attend(q, own, mask, shared)
        return self.proj(out.transpose(1, 2).flatten(2)), own


class CrossAttention(nn.Module):
    """Cross-attention without an output projection, as in the published probes."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.backend: Backend = "auto"

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to all keys."""
        return attend_or_fall_back(q, k, v, None, self.backend)

    def forward(self, query_BQD: Tensor, tokens_BND: Tensor) -> Tensor:
        """Attend from queries [B, Q, D] to tokens [B, N, D]; return [B, Q, D]."""
        q = self.q(query_BQD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(tokens_BND).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.attend(q, k, v).transpose(1, 2).flatten(2)
