"""Multi-block masks of I-JEPA: several blocks of an image to predict, one block to see.

Block sizes are drawn once a batch from the step number alone, so that all workers agree; one random
number gives a block's scale and its aspect ratio. Positions are drawn for every image.

Source: I-JEPA (arXiv 2301.08243), sec. 3 and appendix A.

Shapes: B images, H W patch rows and columns, G target blocks, K context tokens, M tokens of a
block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.errors import ConfigError
from worldmodel.training.image_options import ImageMask, Range

Size = tuple[int, int]
TRIES = 20
"""Draws of a context after which one more target block may overlap it."""


@dataclass(frozen=True, kw_only=True)
class ImageIds:
    """Sorted token ids, in row, column order.

    No id of an image is in context and in a target, unless the context would be too small.
    """

    context: Tensor
    """long [B, K]"""
    targets: Tensor
    """long [G, B, M]"""


def _size(grid: Size, scale: Range, aspect: Range, generator: torch.Generator) -> Size:
    draw = float(torch.rand(1, generator=generator))
    tokens = int(grid[0] * grid[1] * (scale[0] + draw * (scale[1] - scale[0])))
    ratio = aspect[0] + draw * (aspect[1] - aspect[0])
    sides = (round(math.sqrt(tokens * ratio)), round(math.sqrt(tokens / ratio)))
    height, width = (min(s, side - 1) for s, side in zip(sides, grid, strict=True))
    return height, width


def block_sizes(grid: Size, mask: ImageMask, step: int) -> tuple[Size, Size]:
    """Return rows and columns of a target block and of the context block, at a step."""
    generator = torch.Generator().manual_seed(step)
    target = _size(grid, mask.target_scale, mask.target_aspect, generator)
    return target, _size(grid, mask.context_scale, (1.0, 1.0), generator)


def _block(grid: Size, size: Size, mask: ImageMask, generator: torch.Generator) -> Tensor:
    """Draw the place of a block: bool [H, W], True inside."""
    inside_HW = torch.zeros(grid, dtype=torch.bool)
    bound = 0 if mask.as_released else 1
    top, left = (
        int(torch.randint(g - s + bound, (1,), generator=generator))
        for g, s in zip(grid, size, strict=True)
    )
    inside_HW[top : top + size[0], left : left + size[1]] = True
    return inside_HW


def _context(
    targets: list[Tensor], grid: Size, size: Size, mask: ImageMask, generator: torch.Generator
) -> Tensor:
    """Draw a context without the targets: bool [H, W]; the last targets give way first."""
    for avoided in range(len(targets), -1, -1):
        for _ in range(TRIES):
            seen_HW = _block(grid, size, mask, generator)
            for target in targets[:avoided]:
                seen_HW &= ~target
            if int(seen_HW.sum()) > mask.min_keep:
                return seen_HW
    raise AssertionError("a context block alone has more than min_keep tokens")


def _cut(seen_HW: Tensor, count: int, mask: ImageMask, generator: torch.Generator) -> Tensor:
    ids = seen_HW.flatten().nonzero().squeeze(1)
    if mask.as_released:
        return ids[:count]
    return ids[torch.randperm(len(ids), generator=generator)[:count]].sort().values


def sample_image_masks(
    batch: int, grid: Size, mask: ImageMask, step: int, generator: torch.Generator
) -> ImageIds:
    """Draw the masks of a batch of images.

    Args:
        batch: Number of images.
        grid: Patch rows and columns.
        mask: Number, sizes and shapes of the blocks.
        step: Number of the batch, which alone determines the sizes of the blocks.
        generator: Generator of the positions, on the CPU.

    Returns:
        Ids on the CPU; contexts are cut to the shortest one's length, so that they stack.

    Raises:
        ConfigError: A block of this grid has too few tokens.
    """
    target_size, context_size = block_sizes(grid, mask, step)
    for size in (target_size, context_size):
        if size[0] * size[1] <= mask.min_keep:
            raise ConfigError(
                f"a block of {size[0]} x {size[1]} tokens of grid {grid} has no more than min_keep="
                f"{mask.min_keep} tokens: lower min_keep, or use smaller patches or larger images"
            )
    targets, seen = [], []
    for _ in range(batch):
        blocks = [_block(grid, target_size, mask, generator) for _ in range(mask.num_targets)]
        seen.append(_context(blocks, grid, context_size, mask, generator))
        targets.append(torch.stack([b.flatten().nonzero().squeeze(1) for b in blocks]))
    shortest = min(int(s.sum()) for s in seen)
    context = torch.stack([_cut(s, shortest, mask, generator) for s in seen])
    return ImageIds(context=context, targets=torch.stack(targets, dim=1))
