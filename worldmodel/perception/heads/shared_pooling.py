"""Pool the same tokens with many probes of depth 1 at the cost of little more than one.

A probe of depth 1 projects every token to keys and values, 2 D^2 products a token. Its queries do
not depend on the tokens, so the projections can be folded: a key's product with a query is the
token's product with the query in the token's own space, up to a constant that the softmax cancels,
and the mean of values is the value of the mean token. What is left per token are 2 D products for
each query and attention head; the normalised tokens are computed once for all probes.

Shapes: P probes, B clips, N tokens, D width, H attention heads, C channels of a head, Q queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.models.probe import AttentivePooler, CrossAttentionBlock


def can_share(poolers: Sequence[AttentivePooler]) -> bool:
    """Return whether the poolers are whole cross-attention blocks without self-attention."""
    return all(
        isinstance(pooler.cross_attention_block, CrossAttentionBlock) and not len(pooler.blocks)
        for pooler in poolers
    )


def pool_shared(poolers: Sequence[AttentivePooler], tokens_BND: Tensor) -> list[Tensor]:
    """Return what each pooler makes of the tokens, [B, Q, D]; equal to calling it, up to rounding.

    Args:
        poolers: Poolers of one architecture, for which `can_share` is true.
        tokens_BND: Tokens of an encoder, float32.
    """
    blocks = [_block(pooler) for pooler in poolers]
    normal_BND = F.layer_norm(tokens_BND, tokens_BND.shape[-1:], eps=blocks[0].norm1.eps)
    queries = [_fold_query(p, b) for p, b in zip(poolers, blocks, strict=True)]
    scores_BRN = torch.cat(queries, dim=0) @ normal_BND.transpose(1, 2)
    means_BRD = scores_BRN.softmax(dim=-1).to(normal_BND.dtype) @ normal_BND
    parts = means_BRD.chunk(len(poolers), dim=1)
    return [_finish(p, b, m) for p, b, m in zip(poolers, blocks, parts, strict=True)]


def _block(pooler: AttentivePooler) -> CrossAttentionBlock:
    assert isinstance(pooler.cross_attention_block, CrossAttentionBlock)
    return pooler.cross_attention_block


def _fold_query(pooler: AttentivePooler, block: CrossAttentionBlock) -> Tensor:
    """Return the scaled queries in the space of normalised tokens, [H * Q, D]."""
    attention = block.xattn
    q_QHC = attention.q(pooler.query_tokens[0]).unflatten(-1, (attention.num_heads, -1))
    keys_HCD = attention.kv.weight.chunk(2)[0].unflatten(0, (attention.num_heads, -1))
    folded_HQD = q_QHC.transpose(0, 1) @ keys_HCD
    return (folded_HQD * block.norm1.weight).flatten(0, 1) / math.sqrt(q_QHC.shape[-1])


def _finish(pooler: AttentivePooler, block: CrossAttentionBlock, mean_BRD: Tensor) -> Tensor:
    """Return the pooled vectors [B, Q, D] from each head's mean normalised token."""
    attention = block.xattn
    count, queries = len(mean_BRD), pooler.query_tokens.shape[1]
    mean_BRD = mean_BRD * block.norm1.weight + block.norm1.bias
    mean_HRD = mean_BRD.unflatten(1, (attention.num_heads, -1)).transpose(0, 1).flatten(1, 2)
    values_HCD = attention.kv.weight.chunk(2)[1].unflatten(0, (attention.num_heads, -1))
    value_HRC = mean_HRD @ values_HCD.transpose(1, 2)  # R: B clips times Q queries
    value_BQD = value_HRC.unflatten(1, (count, queries)).permute(1, 2, 0, 3).flatten(2)
    attended_BQD = value_BQD + attention.kv.bias.chunk(2)[1]
    x_BQD = pooler.query_tokens + attended_BQD
    out: Tensor = x_BQD + block.mlp(block.norm2(x_BQD))
    return out
