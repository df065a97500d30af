"""Determine the token grid of a V-JEPA 1 position table."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.positions import sincos_positions

log = logging.getLogger(__name__)
Grid = tuple[int, int, int]


def _square(tokens: int, tubelets: int) -> Grid | None:
    """Return the grid of `tubelets` square frames with this number of tokens, or None."""
    if tubelets < 1 or tokens % tubelets:
        return None
    side = math.isqrt(tokens // tubelets)
    return (tubelets, side, side) if side * side * tubelets == tokens else None


def _is_table_of(table_1ND: Tensor, grid: Grid) -> bool:
    with torch.device("cpu"):
        made = sincos_positions(*grid, table_1ND.shape[2])
    return torch.allclose(made, table_1ND.float(), atol=1e-3)


def table_grid(table_1ND: Tensor, asked: Grid, usual_tubelets: int, where: str) -> Grid:
    """Determine the tubelets, rows and columns of a position table.

    Candidates, in order: the requested grid, if its size matches; the grid whose sin-cos table
    equals this one; square frames, with 16 frames or the requested number.

    Args:
        table_1ND: Position table [1, N, D].
        asked: Requested tubelets, rows and columns.
        usual_tubelets: Tubelets of the published clips.
        where: Name of the file, for error messages.

    Raises:
        CheckpointError: The table does not have three axes.
        ConfigError: The table's size does not determine the grid.
    """
    if table_1ND.ndim != 3 or table_1ND.shape[0] != 1:
        raise CheckpointError(
            f"{where}: the position table has shape {tuple(table_1ND.shape)}, not [1, N, D]"
        )
    tokens = table_1ND.shape[1]
    if math.prod(asked) == tokens:
        return asked
    candidates = [_square(tokens, t) for t in (usual_tubelets, asked[0], *range(1, 33))]
    grids = list(dict.fromkeys(g for g in candidates if g is not None))
    matching = [g for g in grids if _is_table_of(table_1ND, g)]
    likely = [g for g in grids if g[0] in (usual_tubelets, asked[0])]
    if not matching and not likely:
        raise ConfigError(
            f"{where}: the position table has {tokens} tokens, not {asked} = {math.prod(asked)}: "
            "pass the image_size and num_frames that the model was trained with"
        )
    grid = (matching or likely)[0]
    log.info("%s: position table of %d x %d x %d tokens", where, *grid)
    return grid
