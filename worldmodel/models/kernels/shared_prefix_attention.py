"""Attention of many samples to a shared past.

All samples use one copy of the past's keys and values: one matrix product per head multiplies the
queries of all samples with it, and one softmax covers the past and each sample's own keys.

Shapes: B samples, L queries, M own keys, S shared keys, H heads, C channels of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Keys = tuple[Tensor, Tensor]


def attend_with_shared_prefix(q_BHLC: Tensor, own: Keys, shared: Keys) -> Tensor:
    """Compute scaled dot-product attention to `shared` [1, H, S, C] and `own` [B, H, M, C].

    It equals attention over both after copying the shared part for each sample.

    Returns:
        [B, H, L, C].
    """
    (k_BHMC, v_BHMC), (k_HSC, v_HSC) = own, (part.squeeze(0) for part in shared)
    batch, length, past = q_BHLC.shape[0], q_BHLC.shape[2], k_HSC.shape[1]
    scaled_BHLC = q_BHLC / math.sqrt(q_BHLC.shape[-1])
    folded_HXC = scaled_BHLC.transpose(0, 1).flatten(1, 2)
    to_past_BHLS = (
        (folded_HXC @ k_HSC.transpose(1, 2)).unflatten(1, (batch, length)).transpose(0, 1)
    )
    to_own_BHLM = scaled_BHLC @ k_BHMC.transpose(2, 3)
    weights = torch.cat([to_past_BHLS, to_own_BHLM], dim=-1).softmax(dim=-1).to(v_BHMC.dtype)
    from_own_BHLC = weights[..., past:] @ v_BHMC
    folded_HXS = weights[..., :past].transpose(0, 1).flatten(1, 2)
    from_past_BHLC = (folded_HXS @ v_HSC).unflatten(1, (batch, length)).transpose(0, 1)
    return from_own_BHLC + from_past_BHLC
