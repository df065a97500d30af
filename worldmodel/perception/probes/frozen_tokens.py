"""Tokens of a frozen encoder for attentive probes, and a probe's probabilities averaged over views.

Shapes: K segments, V views, B videos, T frames, H W pixels, N tokens, D width, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder
from worldmodel.perception.images import is_image
from worldmodel.perception.probes.config import ClipOptions
from worldmodel.perception.probes.recipes import Recipe

FOUR_LEVELS = {24: (17, 19, 21, 23), 32: (25, 27, 29, 31), 40: (24, 29, 34, 39)}
"""Encoder depth -> blocks (from 0) read by V-JEPA 2's Diving48 and Jester probes."""
LEVELS = 4
NO_BLOCKS = "only a V-JEPA or I-JEPA encoder has blocks to read"


def four_levels(encoder: FrameEncoder) -> tuple[int, ...]:
    """Return the four encoder blocks that multi-level probes read.

    These are V-JEPA 2's, by depth; in V-JEPA 2.1, the blocks that have a norm of their own.

    Raises:
        ConfigError: No levels are published for this kind or depth of encoder.
    """
    if not isinstance(encoder, VideoEncoder):
        raise ConfigError(f"{NO_BLOCKS}: use levels=last")
    config = encoder.backbone.config
    if len(config.norm_blocks) == LEVELS:
        return config.norm_blocks
    if config.norm_blocks or config.depth not in FOUR_LEVELS:
        raise ConfigError(
            f"no four levels are published for an encoder of {config.depth} blocks; published: "
            f"depths {', '.join(map(str, FOUR_LEVELS))}, and V-JEPA 2.1. Use levels=last"
        )
    return FOUR_LEVELS[config.depth]


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
        raise ConfigError(f"levels={tuple(levels)}: {NO_BLOCKS}")
    tokens = tokens.unflatten(0, (segments, views, batch))
    return tokens.permute(1, 2, 0, 3, 4).flatten(2, 3)


def recipe_for(clips: ClipOptions, encoder: FrameEncoder, paths: Iterable[Path]) -> Recipe:
    """Return the recipe to train by: images as one frame, where the encoder takes single frames.

    Repeated frames would multiply an image model's cost and tell it nothing, and V-JEPA 2.1's
    probes read images through its image path. A given `clips.num_frames` holds, and a list with
    videos keeps the recipe's clips.
    """
    recipe = clips.recipe()
    once = clips.num_frames is None and encoder.takes_single_frames
    if once and all(is_image(path) for path in paths):
        return dataclasses.replace(recipe, num_frames=1)
    return recipe


def average_views(logits_VBC: Tensor) -> Tensor:
    """Return the class probabilities [B, C], averaged over views after the softmax."""
    return torch.softmax(logits_VBC.float(), dim=-1).mean(dim=0)
