"""Multi-head attention with rotary embedding, key-value cache and selectable backend.

Shapes: B batch, L queries, M keys, H heads, C channels of a head, D width.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from worldmodel.errors import ConfigError
from worldmodel.models.rope import Tables, rotate_pair

Backend = Literal["auto", "sdpa", "cudnn", "flash", "plain"]
Cache = tuple[Tensor, Tensor]
Projected = tuple[Tensor, Tensor, Tensor]
Module = TypeVar("Module", bound=nn.Module)
_KNOWN = ", ".join(get_args(Backend))

PLAIN_LENGTH = 64
"""Maximum number of keys for which `auto` uses plain attention on a CPU; torch's fused CPU
attention is slower for short sequences, especially in the backward pass."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, backend: Backend = "auto"
) -> Tensor:
    """Compute scaled dot-product attention of queries to keys and values.

    Args:
        q: queries [B, H, L, C].
        k: keys [B, H, M, C].
        v: values [B, H, M, C].
        mask: bool [L, M], True where a query may attend; not with the flash backend.
        backend: sdpa, cudnn (CUDA only), flash (package flash-attn, CUDA only), plain, or auto.

    Returns:
        [B, H, L, C].

    Raises:
        ConfigError: the backend is unknown, or cannot run on these inputs.
    """
    if backend == "auto":
        backend = "plain" if q.device.type == "cpu" and k.shape[2] <= PLAIN_LENGTH else "sdpa"
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


def _cudnn(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if q.device.type != "cuda" or q.dtype == torch.float32:
        raise ConfigError("cudnn attention needs CUDA and bf16 or fp16: use backend=sdpa here")
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _flash(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None or q.device.type != "cuda" or q.dtype == torch.float32:
        raise ConfigError("flash needs CUDA, bf16 or fp16, and no mask: use backend=sdpa here")
    try:
        from flash_attn import flash_attn_func
    except ImportError as error:
        raise ConfigError("flash-attn is not installed: pip install 'worldmodel[flash]'") from error
    out: Tensor = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)))
    return out.transpose(1, 2)


def set_backend(model: Module, backend: Backend) -> Module:
    """Set the backend of every attention module of a model; return the model.

    Raises:
        ConfigError: the backend is unknown.
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
        self, q: Tensor, own: Cache, mask: Tensor | None = None, shared: Cache | None = None
    ) -> Tensor:
        """Attend to `own` keys and values, and to `shared` ones [1, H, S, C] before them."""
        k, v = own if shared is None else append(shared, own)
        return attend(q, k, v, mask, self.backend)

    def project(self, x: Tensor, rope: Tables | None) -> Projected:
        """Compute queries, keys (both rotated) and values of x [B, L, D], each [B, H, L, C]."""
        qkv_BL3HC = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        if rope is None:
            q, k, v = qkv_BL3HC.permute(2, 0, 3, 1, 4)
        else:
            v = qkv_BL3HC[:, :, 2].transpose(1, 2)
            q, k = self.rotate(qkv_BL3HC[:, :, :2], rope)
        return q, k, v

    def mix(
        self,
        projected: Projected,
        mask: Tensor | None = None,
        past: Cache | None = None,
        keep: int | None = None,
        shared: Cache | None = None,
    ) -> tuple[Tensor, Cache]:
        """Attend and project the result.

        Args:
            projected: result of `project`.
            mask: bool [L, M], True where a query may attend.
            past: keys and values of earlier frames, batch B or 1.
            keep: number of last tokens to compute an output for.
            shared: keys and values, batch 1, of frames before `past`; excludes a mask.

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
        return attend(q, k, v, None, self.backend)

    def forward(self, query_BQD: Tensor, tokens_BND: Tensor) -> Tensor:
        """Attend from queries [B, Q, D] to tokens [B, N, D]; return [B, Q, D]."""
        q = self.q(query_BQD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(tokens_BND).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.attend(q, k, v).transpose(1, 2).flatten(2)
