"""Fixed sin-cos position tables of V-JEPA 1 and I-JEPA, and their interpolation to other sizes.

Sources: V-JEPA (arXiv 2404.08471), appendix A; I-JEPA (arXiv 2301.08243). Shapes: N tokens, D
width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.models.rope import grid_positions


def sincos_positions(frames: int, rows: int, columns: int, dim: int) -> Tensor:
    """Compute the 3-D sin-cos embedding [1, N, D]; its width is split evenly between the axes."""
    part = 2 * -(-dim // 6)
    frequency = 1.0 / 10000 ** (torch.arange(part // 2, dtype=torch.float64) / (part / 2))
    angles = grid_positions(frames, rows, columns).double()[..., None] * frequency
    table = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]
    return table.float()[None]


def resize_positions(
    table_1ND: Tensor, old: tuple[int, int, int], new: tuple[int, int, int]
) -> Tensor:
    """Interpolate a table [1, N, D] trilinearly between token grids, as published."""
    maps = table_1ND.unflatten(1, old).permute(0, 4, 1, 2, 3)
    scale = [n / o for n, o in zip(new, old, strict=True)]
    # The published code passes the scale, not the size, and the scale sets the sampling points.
    resized = F.interpolate(maps, scale_factor=scale, mode="trilinear")
    if tuple(resized.shape[2:]) != new:  # rounding of the scale lost a row
        resized = F.interpolate(maps, size=new, mode="trilinear")
    return resized.flatten(2).transpose(1, 2)


def image_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Compute the 2-D sin-cos embedding [1, N, D] of I-JEPA; `dim` is a multiple of 4.

    The first half of the channels tells the column, the second half the row, unlike in V-JEPA.
    """
    frequency = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    column_row = grid_positions(1, rows, columns)[:, 1:].double().flip(1)
    angles = column_row[..., None] * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1).float()[None]


def resize_image_positions(table_1ND: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolate a table [1, N, D] bicubically between patch grids, as transformers does.

    The published code has an interpolation for a class token, which fails at every other size.
    """
    maps = table_1ND.unflatten(1, old).permute(0, 3, 1, 2)
    resized = F.interpolate(maps, size=new, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def position_table(grid: tuple[int, int, int], dim: int, *, image: bool) -> Tensor:
    """Return the table [1, N, D] of a clip's or, with `image`, of an image's token grid."""
    return image_positions(*grid[1:], dim) if image else sincos_positions(*grid, dim)


def positions_at(
    table_1ND: Tensor, old: tuple[int, int, int], new: tuple[int, int, int], *, image: bool
) -> Tensor:
    """Return a table at another token grid, in float32; at its own it comes back unchanged."""
    if new == old:
        return table_1ND
    table_1ND = table_1ND.float()
    if image:
        return resize_image_positions(table_1ND, old[1:], new[1:])
    return resize_positions(table_1ND, old, new)
