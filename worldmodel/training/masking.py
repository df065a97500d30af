"""Multi-block space-time masks of V-JEPA's pretraining.

A mask is a union of blocks, each a rectangle of patches that lasts a whole clip (or a part of it).
The context is its complement. Every clip draws its own block positions; all clips of a batch share
one block size and, so that they stack, equal numbers of context and target tokens.

Source: V-JEPA (arXiv 2404.08471), sec. 3.2; V-JEPA 2 (arXiv 2506.09985), sec. 2.1.

Shapes: B clips, T tubelets, H W patch rows and columns, K context tokens, M target tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError, ShapeError
from worldmodel.training.pretrain_options import CutTo

Grid = tuple[int, int, int]
MAX_TRIES = 200
"""Maximum number of redraws for a clip whose blocks leave too little context."""
SPREAD = 1 / 16
"""Fraction of a clip's tokens by which contexts may exceed the median before they are cut."""


@dataclass(frozen=True, kw_only=True)
class BlockMask(Checked):
    """Settings of a mask kind."""

    num_blocks: int = field(metadata=between(1, 1024))
    scale: float = field(metadata=between(1e-6, 1))
    """Fraction of a frame's patches in a block, 0..1."""
    aspect: tuple[float, float] = field(default=(0.75, 1.5), metadata=between(1e-6, 1e6))
    """Range of a block's aspect ratio (height / width)."""
    duration: float = field(default=1.0, metadata=between(1e-6, 1))
    """Fraction of the clip's tubelets that a block spans; 1 as published."""
    min_context: float = field(default=1 / 16, metadata=between(0, 0.999))
    """Minimum fraction of a clip's tokens that stay visible; at least one token does."""
    cut_to: CutTo = "shortest"
    """Length to which the contexts of a batch are cut, see `sample_masks`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aspect[0] > self.aspect[1]:
            raise ConfigError(f"aspect={self.aspect} of a mask; allowed: low <= high")


SHORT_RANGE = BlockMask(num_blocks=8, scale=0.15)
"""Published short-range mask: many small blocks."""
LONG_RANGE = BlockMask(num_blocks=2, scale=0.7)
"""Published long-range mask: few large blocks."""


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """Sorted, disjoint ids of visible and hidden tokens (order: tubelet, row, column)."""

    context: Tensor
    """long [B, K]"""
    target: Tensor
    """long [B, M]"""


def block_size(grid: Grid, kind: BlockMask, generator: torch.Generator) -> Grid:
    """Draw a block's aspect ratio; return its tubelets, rows and columns, clipped to the grid."""
    time, rows, columns = grid
    low, high = kind.aspect
    aspect = low + (high - low) * float(torch.rand((), generator=generator))
    area = kind.scale * rows * columns
    height = min(rows, max(1, round(math.sqrt(area * aspect))))
    width = min(columns, max(1, round(math.sqrt(area / aspect))))
    return max(1, round(kind.duration * time)), height, width


def published_block_size(grid: Grid, kind: BlockMask, step: int) -> Grid:
    """Return the block size that the published code uses at a step: a function of the step alone.

    The step seeds its generator, whose third number decides the aspect ratio.
    """
    generator = torch.Generator()
    generator.manual_seed(step)
    draw = float(torch.rand(3, generator=generator)[2])
    aspect = kind.aspect[0] + (kind.aspect[1] - kind.aspect[0]) * draw
    time, rows, columns = grid
    area = int(rows * columns * kind.scale)
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return max(1, int(time * kind.duration)), min(rows, height), min(columns, width)


def _place(free: int, generator: torch.Generator) -> int:
    return int(torch.randint(free + 1, (), generator=generator))


def hidden_blocks(grid: Grid, size: Grid, num_blocks: int, generator: torch.Generator) -> Tensor:
    """Draw the union of blocks of one size: bool [T, H, W], True where hidden."""
    hidden_THW = torch.zeros(grid, dtype=torch.bool)
    for _ in range(num_blocks):
        t, r, c = (_place(n - s, generator) for n, s in zip(grid, size, strict=True))
        hidden_THW[t : t + size[0], r : r + size[1], c : c + size[2]] = True
    return hidden_THW


def _clip(grid: Grid, size: Grid, kind: BlockMask, generator: torch.Generator) -> Tensor:
    tokens = grid[0] * grid[1] * grid[2]
    least = max(1, math.ceil(kind.min_context * tokens))
    for _ in range(MAX_TRIES):
        hidden_N = hidden_blocks(grid, size, kind.num_blocks, generator).flatten()
        if tokens - int(hidden_N.sum()) >= least:
            return hidden_N
    raise ConfigError(
        f"{kind.num_blocks} blocks of {size} (tubelets, rows, columns) leave under {least} of the "
        f"{tokens} tokens of grid {grid} visible: lower scale or num_blocks, or use smaller patches"
    )


def _count(hidden_N: Tensor) -> int:
    return int((~hidden_N).sum())


def _near_median(
    drawn: list[Tensor], grid: Grid, size: Grid, kind: BlockMask, generator: torch.Generator
) -> list[Tensor]:
    """Redraw the masks whose contexts are shorter than the batch's median, or far longer.

    A clip that never comes near keeps the mask that comes nearest, preferably a longer context.
    """
    least = sorted(map(_count, drawn))[len(drawn) // 2]
    most = least + int(SPREAD * drawn[0].numel())

    def distance(hidden_N: Tensor) -> tuple[bool, int]:
        count = _count(hidden_N)
        return count < least, max(0, least - count, count - most)

    found = []
    for hidden_N in drawn:
        for _ in range(MAX_TRIES):
            if distance(hidden_N) == (False, 0):
                break
            hidden_N = min(hidden_N, _clip(grid, size, kind, generator), key=distance)
        found.append(hidden_N)
    return found


def _some(flags_N: Tensor, count: int, generator: torch.Generator) -> Tensor:
    ids = flags_N.nonzero().squeeze(1)
    if len(ids) > count:
        ids = ids[torch.randperm(len(ids), generator=generator)[:count]]
    return ids.sort().values


def sample_masks(batch: int, grid: Grid, kind: BlockMask, generator: torch.Generator) -> TokenIds:
    """Draw the masks of a batch.

    The published code truncates every clip's ids to the shortest list, which drops the clip's end;
    here random ids are dropped instead, so that no position or time is favoured. With `cut_to`
    "shortest", contexts keep the length of the batch's shortest one, as published: on small grids
    and in large batches, less than half of what the blocks leave visible. With "median", clips
    whose blocks leave less than the median are drawn again, and contexts keep the median length.

    Args:
        batch: Number of clips.
        grid: Tubelets, patch rows and patch columns of a clip.
        kind: Number, size and shape of the blocks.
        generator: CPU random generator; equal states give equal masks.

    Returns:
        Ids of the visible and of the hidden tokens, on the CPU.

    Raises:
        ConfigError: The blocks leave too little context on this grid.
    """
    size = block_size(grid, kind, generator)
    hidden = [_clip(grid, size, kind, generator) for _ in range(batch)]
    if kind.cut_to == "median":
        hidden = _near_median(hidden, grid, size, kind, generator)
    targets = min(int(h.sum()) for h in hidden)
    visible = min(map(_count, hidden))
    return TokenIds(
        context=torch.stack([_some(~h, visible, generator) for h in hidden]),
        target=torch.stack([_some(h, targets, generator) for h in hidden]),
    )


def sample_ids(ids_BM: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw up to `count` ids of each row, sorted."""
    order = torch.rand(ids_BM.shape, generator=generator).argsort(1)
    return ids_BM.gather(1, order[:, :count].sort(1).values)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return a generator that depends only on seed and step, for exact resume."""
    generator = torch.Generator()
    generator.manual_seed((seed * 1_000_003 + step) % 2**63)
    return generator


def gather_tokens(tokens_BND: Tensor, ids_BK: Tensor) -> Tensor:
    """Return the tokens [B, K, D] at the given ids."""
    return tokens_BND.gather(1, ids_BK[..., None].expand(-1, -1, tokens_BND.shape[-1]))


def hide_pixels(clip_BCTHW: Tensor, context_ids: Tensor, patch: int, tubelet: int) -> Tensor:
    """Set the pixels of all hidden tokens to 0, the mean of a normalised image.

    A convolutional stem sees beyond a patch's border. Dropping its tokens afterwards would leak
    hidden pixels into visible neighbours; blanking them before the stem does not.

    Raises:
        ShapeError: The clip is not divisible into patches and tubelets.
    """
    batch, _, time, height, width = clip_BCTHW.shape
    if time % tubelet or height % patch or width % patch:
        raise ShapeError(
            f"clip of {time} frames, {height} x {width} px does not divide into tubelets of "
            f"{tubelet} and patches of {patch}: crop or resize it"
        )
    grid = (time // tubelet, height // patch, width // patch)
    seen_BN = torch.zeros(batch, grid[0] * grid[1] * grid[2], device=clip_BCTHW.device)
    seen_BN.scatter_(1, context_ids, 1.0)
    seen = seen_BN.view(batch, 1, *grid).repeat_interleave(tubelet, 2)
    seen = seen.repeat_interleave(patch, 3).repeat_interleave(patch, 4)
    return clip_BCTHW * seen
