"""Attention of many samples to a shared past and to their own keys, merged by their log-sums.

The past's keys and values are not copied for each sample: the queries of all samples form one long
sequence that attends to them once. Attention to the past and to the own keys each return the
logarithm of the sum of their weights' exponentials, which is the share that each has in the whole:

    out = s(p - o) past + (1 - s(p - o)) own,   s the logistic function, p and o the log-sums

Source: the merge of FlashAttention's blocks (arXiv 2205.14135).

Shapes: B samples, L queries, M own keys, S shared keys, H heads, C channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

Keys = tuple[Tensor, Tensor]
aten = torch.ops.aten
CHANNELS = 8
"""The kernels take heads whose channels are a multiple of this."""


def can_merge(q_BHLC: Tensor) -> bool:
    """Return whether `attend_merged` applies: a known device, no gradients, channels that fit."""
    known = q_BHLC.device.type in ("cpu", "cuda")
    return known and not torch.is_grad_enabled() and q_BHLC.shape[-1] % CHANNELS == 0


def attend_merged(q_BHLC: Tensor, own: Keys, shared: Keys) -> Tensor:
    """Compute scaled dot-product attention to `shared` [1, H, S, C] and `own` [B, H, M, C].

    It equals attention over both after copying the shared part for each sample.

    Returns:
        [B, H, L, C].
    """
    batch, length = q_BHLC.shape[0], q_BHLC.shape[2]
    folded_1HXC = q_BHLC.transpose(0, 1).flatten(1, 2).unsqueeze(0)
    past_1HXC, sum_1HX = _with_log_sum(folded_1HXC, *shared)
    own_BHLC, own_sum_BHL = _with_log_sum(q_BHLC, *own)
    past_BHLC = past_1HXC[0].unflatten(1, (batch, length)).transpose(0, 1)
    past_sum_BHL = sum_1HX[0].unflatten(1, (batch, length)).transpose(0, 1)
    share_BHL1 = torch.sigmoid(past_sum_BHL - own_sum_BHL).unsqueeze(-1)
    return torch.lerp(own_BHLC, past_BHLC, share_BHL1.to(own_BHLC.dtype))


def _with_log_sum(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return attention [B, H, L, C] and the float32 log-sums [B, H, L] of its weights."""
    # torch's attention, but for these operators, does not return the sums
    if q.device.type == "cpu":
        out, log_sum = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)  # noqa: SLF001
    elif q.dtype == torch.float32:
        kernel = aten._scaled_dot_product_efficient_attention  # noqa: SLF001
        out, log_sum, *_ = kernel(q, k, v, None, True)
    else:
        out, log_sum, *_ = aten._scaled_dot_product_flash_attention(q, k, v)  # noqa: SLF001
    return out, log_sum[..., : q.shape[2]]
