"""Tokens of a frozen encoder for attentive probes, and a probe's probabilities averaged over views.

Shapes: K segments, V views, B videos, T frames, H W pixels, N tokens, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder

FOUR_LEVELS = {24: (17, 19, 21, 23), 32: (25, 27, 29, 31), 40: (24, 29, 34, 39)}
"""Encoder depth -> blocks (from 0) read by V-JEPA 2's Diving48 and Jester probes."""


def four_levels(encoder: FrameEncoder) -> tuple[int, ...]:
    """Return the four encoder blocks that V-JEPA 2's multi-level probes read.

    Raises:
        ConfigError: No levels are published for this kind or depth of encoder.
    """
    depth = encoder.backbone.config.depth if isinstance(encoder, VideoEncoder) else 0
    if depth not in FOUR_LEVELS:
        raise ConfigError(
            f"no levels are published for an encoder of {depth} blocks; published: depths "
            f"{', '.join(map(str, FOUR_LEVELS))}. Name the blocks yourself"
        )
    return FOUR_LEVELS[depth]


def view_tokens(encoder: FrameEncoder, clips_KVBTHWC: Tensor, levels: Sequence[int] = ()) -> Tensor:
    """Encode every clip separately and concatenate the segments of each view.

    Args:
        encoder: Frozen encoder.
        clips_KVBTHWC: uint8 RGB clips, with sides divisible by the patch size.
        levels: Blocks (from 0) whose outputs are read, each through the final norm and joined
            along the tokens of a segment; empty reads the last block.

    Returns:
        [V, B, K * levels * N, D].

    Raises:
        ShapeError: Wrong rank, channels, dtype or size.
        ConfigError: The encoder does not have these blocks.
    """
    if clips_KVBTHWC.ndim != 7:
        raise ShapeError(
            f"clips have shape {tuple(clips_KVBTHWC.shape)}; use [segments, views, videos, frames, "
            "height, width, 3]"
        )
    segments, views, batch = clips_KVBTHWC.shape[:3]
    flat = clips_KVBTHWC.flatten(0, 2)
    if not levels:
        tokens = encoder.encode_clip(flat)
    elif isinstance(encoder, VideoEncoder):
        tokens = encoder.encode_levels(flat, levels)
    else:
        raise ConfigError(f"levels={tuple(levels)}: only a V-JEPA encoder has blocks to read")
    tokens = tokens.unflatten(0, (segments, views, batch))
    return tokens.permute(1, 2, 0, 3, 4).flatten(2, 3)


def average_views(logits_VBC: Tensor) -> Tensor:
    """Return the class probabilities [B, C], averaged over views after the softmax."""
    return torch.softmax(logits_VBC.float(), dim=-1).mean(dim=0)
