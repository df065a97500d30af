"""Shared transformer parts: the block, its MLP and the published initialisation.

Shapes: B batch, L tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.models.attention import Attention, Cache, Mask, Projected
from worldmodel.models.rope import Tables


def _plus(x: Tensor, new: Tensor) -> Tensor:
    """Return x + new, in place when autograd does not need `new`."""
    if torch.is_grad_enabled() or x.dtype != new.dtype:
        return x + new
    return new.add_(x)


class LayerNorm(nn.LayerNorm):
    """LayerNorm that leaves a 16-bit input on CUDA in its data type.

    Autocast would convert the input to float32 in memory, and the result later back. The kernel
    computes the statistics in float32 in both cases.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last axis."""
        if x.device.type != "cuda" or x.dtype == torch.float32:
            return super().forward(x)
        weight, bias = (None if p is None else p.to(x.dtype) for p in (self.weight, self.bias))
        with torch.autocast("cuda", enabled=False):
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP."""

    def __init__(self, dim: int, num_heads: int, hidden: int, norm_eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, hidden)

    def forward(
        self,
        x: Tensor,
        rope: Tables | None,
        mask: Mask | None = None,
        past: Cache | None = None,
        keep: int | None = None,
    ) -> tuple[Tensor, Cache]:
        """Return the tokens [B, L, D] (the last `keep` of them) and the cache."""
        return self.finish(x, self.start(x, rope), mask, past, keep)

    def start(self, x: Tensor, rope: Tables | None) -> Projected:
        """Compute the normalised tokens' queries, keys and values; `finish` completes it."""
        return self.attn.project(self.norm1(x), rope)

    def finish(
        self,
        x: Tensor,
        projected: Projected,
        mask: Mask | None = None,
        past: Cache | None = None,
        keep: int | None = None,
        shared: Cache | None = None,
    ) -> tuple[Tensor, Cache]:
        """Complete `forward` from the result of `start` (`Attention.mix`)."""
        attended, cache = self.attn.mix(projected, mask, past, keep, shared)
        return self.end(x if keep is None else x[:, -keep:], attended), cache

    def end(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the result of the attention, then the MLP's."""
        x = _plus(x, attended)
        return _plus(x, self.mlp(self.norm2(x)))


class AdaptiveBlock(nn.Module):
    """Transformer block whose norms and outputs are modulated by a condition of each frame.

    Attention and MLP each compute x + gate * f(norm(x) * (1 + scale) + shift), where one linear
    layer maps the condition to scales, shifts and gates. Zero weights make the block the identity.
    Sources: DiT (arXiv 2212.09748), sec. 3.2; JEPA-WMs (arXiv 2512.24497).
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, norm_eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, hidden)
        self.modulation = nn.Linear(dim, 6 * dim)

    def forward(
        self,
        x_BLD: Tensor,
        condition_BTD: Tensor,
        rope: Tables | None,
        mask: Mask | None = None,
        past: Cache | None = None,
        shared: Cache | None = None,
    ) -> tuple[Tensor, Cache]:
        """Return the tokens of T frames [B, L, D] and the cache; x or the condition may be batch 1.

        The other arguments are those of `Attention.mix`.
        """
        frames = condition_BTD.shape[1]
        x = x_BLD.unflatten(1, (frames, -1))
        six = self.modulation(condition_BTD).unsqueeze(2).chunk(6, dim=-1)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = six
        inner = torch.addcmul(shift, self.norm1(x), 1 + scale).flatten(1, 2)
        attended, cache = self.attn.mix(self.attn.project(inner, rope), mask, past, None, shared)
        x = torch.addcmul(x, gate, attended.unflatten(1, (frames, -1)))
        inner = torch.addcmul(mlp_shift, self.norm2(x), 1 + mlp_scale)
        return torch.addcmul(x, mlp_gate, self.mlp(inner)).flatten(1, 2), cache


SMALLEST_PUBLISHED_PATCH = 3 * 14 * 14
"""Values of the smallest published patch: I-JEPA's 14 x 14 pixels of one frame."""


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Draw truncated normal weights and set biases to zero, as published.

    Patch embeddings below the published sizes keep PyTorch's larger weights: with the published
    deviation their tokens begin too small, and the small I-JEPA recipe does not learn.
    """
    for part in module.modules():
        if not isinstance(part, nn.Linear | nn.Conv3d):
            continue
        if isinstance(part, nn.Linear) or part.weight[0].numel() >= SMALLEST_PUBLISHED_PATCH:
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def rescale_blocks(blocks: nn.ModuleList) -> None:
    """Divide the output weights of block i (1-based) by sqrt(2 i), as published."""
    with torch.no_grad():
        for i, block in enumerate(cast(Iterable[Block | AdaptiveBlock], blocks), start=1):
            block.attn.proj.weight.div_(math.sqrt(2 * i))
            block.mlp.fc2.weight.div_(math.sqrt(2 * i))
