"""Masks of a pretraining step: the short-range and the long-range kind, both or in turn."""

from __future__ import annotations

from collections.abc import Sequence

from worldmodel.training.batches import Batch
from worldmodel.training.config import VideoPretrainOptions
from worldmodel.training.masking import BlockMask, Grid, sample_ids, sample_masks, step_generator

KINDS = ("short", "long")


def mask_kinds(options: VideoPretrainOptions) -> tuple[BlockMask, BlockMask]:
    """Return the short-range and the long-range mask settings."""
    masks = options.masks
    return (
        BlockMask(num_blocks=masks.short_blocks, scale=masks.short_scale, cut_to=masks.cut_to),
        BlockMask(num_blocks=masks.long_blocks, scale=masks.long_scale, cut_to=masks.cut_to),
    )


def draw_masks(
    options: VideoPretrainOptions, grid: Grid, count: int, step: int, names: Sequence[str] = KINDS
) -> Batch:
    """Draw the token ids of mask kinds for a step, from seed and step alone."""
    generator, most = step_generator(options.run.seed, step), options.masks.max_targets
    kinds = dict(zip(KINDS, mask_kinds(options), strict=True))
    found: Batch = {}
    for name in names:
        ids = sample_masks(count, grid, kinds[name], generator)
        target = sample_ids(ids.target, most, generator) if most else ids.target
        found |= {f"context_{name}": ids.context, f"target_{name}": target}
    return found


def kinds_of_step(options: VideoPretrainOptions, step: int) -> Sequence[str]:
    """Return the kinds of mask that a step trains on: both, or one in turn."""
    return (KINDS[step % len(KINDS)],) if options.masks.alternate else KINDS
