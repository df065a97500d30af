"""Blockwise CPU attention by matrix products.

On processors without matrix tiles (Intel's AMX), torch's fused attention is no faster in bfloat16
than in float32 and, where MKL is slow, slow in float32 too; its matrix products are fast in both.
With tiles, the fused attention takes half the time of this one (`benchmarks/attention_cpu.py`), so
it is used instead.

The scores of a block fill one buffer of fixed size, whatever the number of queries. In bfloat16, if
no score can be large, weights are powers of 2 without max-subtraction: one pass over the scores
instead of three.

Shapes: B batch, L queries, M keys, H heads, C channels of a head, G heads of a block, R its rows.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from worldmodel.models.attention import Mask
from worldmodel.models.kernels.cpu_linear import linear, prefers_onednn

ROWS = 256
"""Number of query rows in a float32 block."""
SCORES = 2**23
"""Number of scores in a bfloat16 block (16 MB). On 2 idle cores 2**21 to 2**23 take the same time
and 2**24 is 20 % slower from 4096 tokens on; on a busy machine fewer, larger products are much
faster, because the threads synchronise at each one."""

REACH = 64.0
"""Largest bfloat16 score that is used as an exponent of 2 directly: with 2**20 keys the sum stays
below 2**84, far from the overflow at 2**127. Larger scores take softmax, which subtracts each row's
maximum first."""


@lru_cache(maxsize=1)
def has_matrix_tiles() -> bool:
    """Return whether the processor has AMX, which torch's fused attention uses in bfloat16."""
    return bool(torch.cpu.get_capabilities().get("amx_tile", False))


def _has_faster_products(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return not has_matrix_tiles()
    return dtype == torch.float32 and prefers_onednn()


def can_use_fast_path(q: Tensor, k: Tensor, mask: Mask | None) -> bool:
    """Return whether `attend_in_blocks` applies: CPU, no mask or gradient, fast products."""
    return (
        q.device.type == "cpu"
        and mask is None
        and _has_faster_products(q.dtype)
        and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad))
    )


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute scaled dot-product attention of [B, H, L, C] to [B, H, M, C] without gradients."""
    out = torch.empty(q.shape, dtype=v.dtype, device=q.device)
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    if q.dtype == torch.float32:
        for sample in range(len(q)):
            _float32(q[sample], k[sample], v[sample], out[sample])
        return out
    # the product of a head's longest query and longest key bounds all its scores
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
