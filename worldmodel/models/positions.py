"""Fixed sin-cos position table of V-JEPA 1, and its interpolation to other sizes.

Source: V-JEPA (arXiv 2404.08471), appendix A. Shapes: N tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.models.rope import grid_positions


def sincos_positions(frames: int, rows: int, columns: int, dim: int) -> Tensor:
    """Compute the 3-D sin-cos embedding [1, N, D]; its width is split evenly over the axes."""
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
    # The published code passes the scale, not the size; it decides the sampling points.
    resized = F.interpolate(maps, scale_factor=scale, mode="trilinear")
    if tuple(resized.shape[2:]) != new:  # rounding the scale lost a row
        resized = F.interpolate(maps, size=new, mode="trilinear")
    return resized.flatten(2).transpose(1, 2)
