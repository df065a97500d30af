"""Transformer parts shared by all networks; one attention function with three backends.

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
from worldmodel.models.kernels.cpu_attention import attend_in_blocks, can_use_fast_path
from worldmodel.models.kernels.cpu_linear import Linear, linear_gelu
from worldmodel.models.kernels.shared_prefix_attention import attend_with_shared_prefix
from worldmodel.models.rope import Tables, rotate_pair

Backend = Literal["auto", "sdpa", "cudnn", "flash", "plain"]
Cache = tuple[Tensor, Tensor]
Projected = tuple[Tensor, Tensor, Tensor]
Module = TypeVar("Module", bound=nn.Module)
_KNOWN = ", ".join(get_args(Backend))

PLAIN_LENGTH = 64
"""On a CPU, `auto` takes plain attention up to this many keys: for short sequences torch's fused
CPU attention is slower, above all backwards."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, backend: Backend = "auto"
) -> Tensor:
    """Scaled dot-product attention of [B, H, L, C] queries to [B, H, M, C] keys and values.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: bool [L, M], True where a query may look; not with the flash backend.
        backend: sdpa, cudnn (CUDA only), flash (package flash-attn, CUDA only), plain, or auto.

    Raises:
        ConfigError: unknown backend, or cudnn or flash where they cannot run.
    """
    if backend == "auto" and k.shape[2] > PLAIN_LENGTH and can_use_fast_path(q, k, mask):
        return attend_in_blocks(q, k, v)
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
    """Let every attention of a model use one backend; returns the model.

    Raises:
        ConfigError: unknown backend.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"Unknown attention backend {backend!r}; known: {_KNOWN}")
    for part in model.modules():
        if hasattr(part, "backend"):
            part.backend = backend  # type: ignore[assignment]
    return model


class Attention(nn.Module):
    """Multi-head self-attention with rotary embedding and an optional cache of the past."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.backend: Backend = "auto"

    def project(self, x: Tensor, rope: Tables | None) -> Projected:
        """Queries, keys (both rotated) and values of x [B, L, D], each [B, H, L, C]."""
        qkv_BL3HC = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        if rope is None:
            q, k, v = qkv_BL3HC.permute(2, 0, 3, 1, 4)
        else:
            v = qkv_BL3HC[:, :, 2].transpose(1, 2)
            q, k = rotate_pair(qkv_BL3HC[:, :, :2], rope)
        return q, k, v

    def mix(
        self,
        projected: Projected,
        mask: Tensor | None = None,
        past: Cache | None = None,
        keep: int | None = None,
        shared: Cache | None = None,
    ) -> tuple[Tensor, Cache]:
        """Attend; returns the output [B, L, D] and all keys and values so far but `shared`.

        `past` (batch B or 1) and `shared` (batch 1, before `past`; no mask) are keys and values of
        earlier frames. With `keep`, only the last so many tokens get an output [B, keep, D].
        """
        q, k, v = projected
        if keep is not None:
            q = q[:, :, -keep:]
        if past is not None:
            k, v = _append(past, (k, v))
        if shared is None:
            out = attend(q, k, v, mask, self.backend)
        elif q.device.type == "cpu":
            out = attend_with_shared_prefix(q, (k, v), shared)
        else:  # a copy a sample, for the fused kernel
            out = attend(q, *_append(shared, (k, v)), mask, self.backend)
        return self.proj(out.transpose(1, 2).flatten(2)), (k, v)

    def forward(
        self,
        x: Tensor,
        rope: Tables | None,
        mask: Tensor | None = None,
        past: Cache | None = None,
        keep: int | None = None,
    ) -> tuple[Tensor, Cache]:
        """`project`, then `mix`."""
        return self.mix(self.project(x, rope), mask, past, keep)


def _append(past: Cache, new: Cache) -> Cache:
    k, v = (
        torch.cat([old.expand(len(now), -1, -1, -1), now], dim=2)
        for old, now in zip(past, new, strict=True)
    )
    return k, v


def _plus(x: Tensor, new: Tensor) -> Tensor:
    """X + new, into `new` where nobody will miss it."""
    if torch.is_grad_enabled() or x.dtype != new.dtype:
        return x + new
    return new.add_(x)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        out: Tensor = self.fc2(linear_gelu(x, self.fc1.weight, self.fc1.bias))
        return out


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, hidden)

    def forward(
        self,
        x: Tensor,
        rope: Tables | None,
        mask: Tensor | None = None,
        past: Cache | None = None,
        keep: int | None = None,
    ) -> tuple[Tensor, Cache]:
        """[B, L, D] -> [B, L, D] (or the last `keep` tokens of it) and the cache."""
        return self.finish(x, self.attn.project(self.norm1(x), rope), mask, past, keep)

    def finish(
        self,
        x: Tensor,
        projected: Projected,
        mask: Tensor | None = None,
        past: Cache | None = None,
        keep: int | None = None,
        shared: Cache | None = None,
    ) -> tuple[Tensor, Cache]:
        """`forward` from queries, keys and values that are there already; see `Attention.mix`."""
        attended, cache = self.attn.mix(projected, mask, past, keep, shared)
        x = _plus(x if keep is None else x[:, -keep:], attended)
        return _plus(x, self.mlp(self.norm2(x))), cache


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Truncated normal weights, zero biases, as published."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def rescale_blocks(blocks: nn.ModuleList) -> None:
    """Divide the output weights of block i (1-based) by sqrt(2 i), as published."""
    with torch.no_grad():
        for i, block in enumerate(blocks, start=1):
            block.attn.proj.weight.div_(math.sqrt(2 * i))  # type: ignore[union-attr, operator]
            block.mlp.fc2.weight.div_(math.sqrt(2 * i))  # type: ignore[union-attr, operator]
