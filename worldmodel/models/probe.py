"""Attentive probe: self-attention blocks, a query that attends to all tokens, a linear layer.

Sources: V-JEPA 2 (arXiv 2506.09985), appendix on the probe evaluations; V-JEPA (arXiv 2404.08471),
whose self-attention blocks come after the cross-attention. Keys of the state dict are the published
ones.

Shapes: B clips, N tokens, Q queries, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.errors import ShapeError
from worldmodel.models.attention import CrossAttention
from worldmodel.models.config import ProbeConfig
from worldmodel.models.layers import Block, LayerNorm, Mlp, initialise, rescale_blocks


class CrossAttentionBlock(nn.Module):
    """Cross-attention block whose first LayerNorm acts on the tokens, not on the queries."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.xattn = CrossAttention(dim, num_heads)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)

    def forward(self, query_BQD: Tensor, tokens_BND: Tensor) -> Tensor:
        """Attend from queries [B, Q, D] to tokens [B, N, D]; return [B, Q, D]."""
        query_BQD = query_BQD + self.xattn(query_BQD, self.norm1(tokens_BND))
        return query_BQD + self.mlp(self.norm2(query_BQD))


class AttentivePooler(nn.Module):
    """Pools tokens into one vector per query."""

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        c = config
        hidden = int(c.embed_dim * c.mlp_ratio)
        self.queries_first = c.self_attention_on == "queries"
        self.query_tokens = nn.Parameter(torch.zeros(1, c.num_queries, c.embed_dim))
        self.cross_attention_block: nn.Module = (
            CrossAttentionBlock(c.embed_dim, c.num_heads, hidden)
            if c.complete_block
            else CrossAttention(c.embed_dim, c.num_heads)
        )
        self.blocks = nn.ModuleList(
            Block(c.embed_dim, c.num_heads, hidden) for _ in range(c.depth - 1)
        )
        nn.init.trunc_normal_(self.query_tokens, std=0.02)
        for part in self.modules():
            if isinstance(part, nn.LayerNorm):
                part.eps = c.norm_eps

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Pool tokens [B, N, D] to [B, Q, D]."""
        query_BQD = self.query_tokens.expand(len(tokens_BND), -1, -1)
        if self.queries_first:
            return self._self_attention(self.cross_attention_block(query_BQD, tokens_BND))
        out: Tensor = self.cross_attention_block(query_BQD, self._self_attention(tokens_BND))
        return out

    def _self_attention(self, x_BLD: Tensor) -> Tensor:
        for block in self.blocks:
            x_BLD, _ = block(x_BLD, None)
        return x_BLD


class AttentiveClassifier(nn.Module):
    """Attentive pooler and linear classifier on frozen encoder features."""

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        self.config = c = config
        self.pooler = AttentivePooler(c)
        self.linear = nn.Linear(c.embed_dim, c.num_classes)
        initialise(self)
        rescale_blocks(self.pooler.blocks)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Map encoder tokens [B, N, D] to the first query's logits [B, classes].

        Raises:
            ShapeError: The tokens' width is not the probe's.
        """
        if tokens_BND.ndim != 3 or tokens_BND.shape[2] != self.config.embed_dim:
            raise ShapeError(
                f"tokens have shape {tuple(tokens_BND.shape)}; this probe takes [B, N, "
                f"{self.config.embed_dim}] from the encoder it was trained on"
            )
        return self.read(self.pooler(tokens_BND.to(self.linear.weight.dtype)))

    def read(self, pooled_BQD: Tensor) -> Tensor:
        """Return the logits [B, classes] of pooled vectors [B, Q, D]."""
        logits: Tensor = self.linear(pooled_BQD[:, 0])
        return logits
