"""Attention on a CPU by matrix products, some heads and query rows at a time.

Torch's fused CPU attention is no faster in bfloat16 than in float32 and, on processors where MKL is
slow, slow in float32 too; its matrix products are fast in both. A block's scores lie in one piece
of memory of fixed size, whatever the number of queries. In bfloat16, where no score can be large,
weights are powers of 2 without the row's maximum taken off: one pass over the scores, not three.

Shapes: B batch, L queries, M keys, H heads, C channels of a head, G heads of a block, R its rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldmodel.models.kernels.cpu_linear import linear, prefers_onednn

ROWS = 256
"""Query rows of a float32 block."""
SCORES = 2**23
"""Scores of a bfloat16 block (16 MB). Alone on 2 cores 2**21 .. 2**23 are alike and 2**24 is 20 %
slower from 4096 tokens on; beside other programs fewer and larger products are much faster, since
at each one the threads wait for each other."""


REACH = 64.0
"""A bfloat16 score is safe to be an exponent of 2 as it is up to this size: with 2**20 keys the sum
stays under 2**84, of 2**127. Larger ones take softmax, which first looks for each row's maximum."""


def can_use_fast_path(q: Tensor, k: Tensor, mask: Tensor | None) -> bool:
    """Whether this way is the fast one: on a CPU, no mask, no gradient, a fast matrix product."""
    return (
        q.device.type == "cpu"
        and mask is None
        and (q.dtype == torch.bfloat16 or (q.dtype == torch.float32 and prefers_onednn()))
        and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad))
    )


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of [B, H, L, C] to [B, H, M, C]; float32 accumulation."""
    out = torch.empty(q.shape, dtype=v.dtype, device=q.device)
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    if q.dtype == torch.float32:
        for sample in range(len(q)):
            _float32(q[sample], k[sample], v[sample], out[sample])
        return out
    # no score is larger than the longest query times the longest key of its head
    reach_BH = q.norm(dim=-1).amax(2).float() * k.norm(dim=-1).amax(2)
    small_BH = reach_BH * math.log2(math.e) / math.sqrt(q.shape[-1]) <= REACH
    for sample, small_H in enumerate(small_BH.tolist()):
        _bfloat16(q[sample], k[sample], v[sample], out[sample], small_H)
    return out


def _float32(q_HLC: Tensor, k_HMC: Tensor, v_HMC: Tensor, out_HLC: Tensor) -> None:
    scaled_HLC = q_HLC / math.sqrt(q_HLC.shape[-1])
    v_HCM = v_HMC.transpose(1, 2).contiguous()
    for q, k, v, out in zip(scaled_HLC, k_HMC, v_HCM, out_HLC, strict=True):
        for start in range(0, len(q), ROWS):
            block = slice(start, start + ROWS)
            out[block] = linear(linear(q[block], k).softmax(dim=-1), v)


def _bfloat16(
    q_HLC: Tensor, k_HMC: Tensor, v_HMC: Tensor, out_HLC: Tensor, small_H: list[bool]
) -> None:
    (heads, length, width), keys = q_HLC.shape, k_HMC.shape[1]
    rows = math.ceil(length / math.ceil(length * keys / SCORES))
    group = min(heads, max(1, SCORES // (rows * keys)))
    memory = torch.empty(group * rows * keys, dtype=q_HLC.dtype)
    for head in range(0, heads, group):
        some = slice(head, head + group)
        k_GCM, v_GMC, small = k_HMC[some].transpose(1, 2), v_HMC[some], all(small_H[some])
        scale = (math.log2(math.e) if small else 1.0) / math.sqrt(width)
        for start in range(0, length, rows):
            block = some, slice(start, start + rows)
            q_GRC, found_GRC = q_HLC[block], out_HLC[block]
            scores = memory[: q_GRC[..., 0].numel() * keys].view(*q_GRC.shape[:2], keys)
            torch.baddbmm(scores, q_GRC, k_GCM, beta=0, alpha=scale, out=scores)
            if small:
                torch.bmm(torch.exp2(scores, out=scores), v_GMC, out=found_GRC)
                found_GRC /= scores.sum(dim=-1, keepdim=True)
            else:
                torch.bmm(torch.softmax(scores, dim=-1, out=scores), v_GMC, out=found_GRC)
