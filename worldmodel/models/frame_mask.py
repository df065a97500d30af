"""Frame-causal attention: every token attends to all tokens of its own and of earlier frames.

Source: V-JEPA 2 (arXiv 2506.09985), sec. 3. Shapes: B batch, H heads, L tokens, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.models.fastest import Fastest

if TYPE_CHECKING:  # importing it loads torch's compiler, which takes seconds
    from torch.nn.attention.flex_attention import BlockMask


class FrameMask:
    """Mask of `frames` frames of `size` tokens; its forms are made when they are used, and kept."""

    def __init__(self, frames: int, size: int, device: torch.device) -> None:
        self.frames, self.size, self.device = frames, size, device

    @functools.cached_property
    def dense(self) -> Tensor:
        """Boolean mask [L, L], True where a query (row) may attend to a key (column)."""
        frame_L = torch.arange(self.frames, device=self.device).repeat_interleave(self.size)
        return frame_L[:, None] >= frame_L[None, :]

    @functools.cached_property
    def blocks(self) -> BlockMask:
        """The same mask as blocks, of which FlexAttention skips those that are False."""
        from torch.nn.attention.flex_attention import create_block_mask

        size = self.size

        def allowed(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return q // size >= k // size

        length = self.frames * self.size
        return create_block_mask(allowed, None, None, length, length, device=str(self.device))


def attend_dense(q: Tensor, k: Tensor, v: Tensor, mask: FrameMask) -> Tensor:
    """Compute attention [B, H, L, C] with the dense mask, which excludes flash attention."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.dense)


def _compiled_blocks() -> Callable[[Tensor, Tensor, Tensor, FrameMask], Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    flex = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: FrameMask) -> Tensor:
        out: Tensor = flex(q, k, v, block_mask=mask.blocks)
        return out

    return attend


ATTEND = Fastest(attend_dense, _compiled_blocks)
"""Attention with a frame mask: dense, or compiled by blocks on CUDA where that is faster. Half of
the blocks of a long clip are skipped, and the mask is not read. Inside a compiled block it is
dense."""
