"""V-JEPA 2.1's dense losses: visible tokens are predicted too, at several blocks of the encoder.

Source: V-JEPA 2.1 (arXiv 2603.14482), sec. 3.

Shapes: B clips, K context tokens, M target tokens, N tokens, L levels, D width of a level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.errors import ConfigError
from worldmodel.models.frame_encoder import normalise
from worldmodel.models.rope import id_positions
from worldmodel.training.masking import Grid, TokenIds
from worldmodel.training.pretrain_options import DenseConfig


def level_blocks(levels: int, depth: int) -> tuple[int, ...]:
    """Return the numbers (from 0) of the encoder blocks of `levels`, evenly spread to the last one.

    One level is the encoder's output, and has no norm of its own: ().

    Raises:
        ConfigError: The encoder has fewer blocks.
    """
    if levels > depth:
        raise ConfigError(f"levels={levels} is more than the {depth} blocks of the encoder")
    return tuple(depth * (i + 1) // levels - 1 for i in range(levels)) if levels > 1 else ()


def last_blocks(count: int, depth: int) -> tuple[int, ...]:
    """Return the numbers (from 0) of the last blocks that targets average; one is none: ().

    Raises:
        ConfigError: The encoder has fewer blocks.
    """
    if count > depth:
        raise ConfigError(f"target_blocks={count} is more than the {depth} blocks of the encoder")
    return tuple(range(depth - count, depth)) if count > 1 else ()


def normalise_levels(tokens_BNF: Tensor, levels: int) -> Tensor:
    """Apply LayerNorm without weights to each of the levels that are joined along the channels."""
    return normalise(tokens_BNF.unflatten(-1, (levels, -1))).flatten(-2)


def nearest_target(ids: TokenIds, grid: Grid) -> Tensor:
    """Return each visible token's distance to the nearest token to predict: [B, K], in tokens."""
    context, target = (id_positions(x, grid[1], grid[2]) for x in (ids.context, ids.target))
    return torch.cdist(context, target).amin(2)


def visible_error(
    predicted_BKD: Tensor, target_BKD: Tensor, ids: TokenIds, grid: Grid, *, by_distance: bool
) -> Tensor:
    """Return the mean absolute error at visible tokens.

    With `by_distance`, each token's error is divided by the square root of its distance to the
    nearest token to predict.
    """
    error_BK = (predicted_BKD - target_BKD).abs().mean(2)
    if by_distance:
        error_BK = error_BK / nearest_target(ids, grid).clamp_min(1.0).sqrt()
    return error_BK.mean()


def context_weight_at(step: int, options: DenseConfig) -> float:
    """Return the weight of the visible tokens' error at a step: 0, then linear to its value."""
    start, end = options.context_from, options.context_until
    if step >= end:
        return options.context_loss if step >= start else 0.0
    return options.context_loss * max(0.0, (step - start) / (end - start))
