"""Attention in bfloat16 on a CPU, a few query rows at a time.

Torch's fused CPU attention is no faster in bfloat16 than in float32; matrix products are. Blocks of
rows keep the scores in the cache, and memory stays linear in the number of keys.

Shapes: B batch, L queries, M keys, H heads, C channels of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROWS = 256
"""Query rows a block: 256 x 2048 bfloat16 scores take 1 MB."""


def suits(q: Tensor, k: Tensor, mask: Tensor | None) -> bool:
    """Whether this way is the fast one: bfloat16 on a CPU, no mask, no gradient."""
    return (
        q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and mask is None
        and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad))
    )


def attend_by_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of [B, H, L, C] to [B, H, M, C]; float32 accumulation."""
    out = torch.empty(q.shape, dtype=v.dtype, device=q.device)
    scaled = (q / math.sqrt(q.shape[-1])).flatten(0, 1)
    keys_BCM, values = k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1)
    flat = out.view(-1, *out.shape[2:])
    for i in range(len(scaled)):
        for start in range(0, scaled.shape[1], ROWS):
            block = slice(start, start + ROWS)
            scores = torch.mm(scaled[i, block], keys_BCM[i])
            flat[i, block] = torch.mm(scores.softmax(dim=-1), values[i])
    return out
