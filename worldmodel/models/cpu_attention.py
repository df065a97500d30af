"""Attention on a CPU by matrix products, a few query rows at a time.

Torch's fused CPU attention is no faster in bfloat16 than in float32 and, on processors where MKL is
slow, slow in float32 too; its matrix products are fast in both. Blocks of rows keep the scores in
the cache, and memory stays linear in the number of keys.

Shapes: B batch, L queries, M keys, H heads, C channels of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldmodel.models.cpu_linear import linear, prefers_onednn

ROWS = 256
"""Query rows a block: 256 x 2048 bfloat16 scores take 1 MB."""


def suits(q: Tensor, k: Tensor, mask: Tensor | None) -> bool:
    """Whether this way is the fast one: on a CPU, no mask, no gradient, a fast matrix product."""
    return (
        q.device.type == "cpu"
        and mask is None
        and (q.dtype == torch.bfloat16 or (q.dtype == torch.float32 and prefers_onednn()))
        and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad))
    )


def attend_by_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of [B, H, L, C] to [B, H, M, C]; float32 accumulation."""
    out = torch.empty(q.shape, dtype=v.dtype, device=q.device)
    scaled = (q / math.sqrt(q.shape[-1])).flatten(0, 1)
    keys_BMC = k.flatten(0, 1).contiguous()
    values_BCM = v.flatten(0, 1).transpose(1, 2).contiguous()
    flat = out.view(-1, *out.shape[2:])
    for i in range(len(scaled)):
        for start in range(0, scaled.shape[1], ROWS):
            block = slice(start, start + ROWS)
            scores = linear(scaled[i, block], keys_BMC[i])
            flat[i, block] = linear(scores.softmax(dim=-1), values_BCM[i])
    return out
