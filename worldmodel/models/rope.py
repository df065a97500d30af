"""Rotary embedding over frame, row and column.

Each head's channels hold three spans of d = 2 * ((head_dim // 3) // 2) channels: frame, row,
column; the other channels are not rotated. Neighbouring channels (0, 1), (2, 3), ... are rotated as
pairs. V-JEPA 2's weights need each span's angles TILED (f0..fk, f0..fk); V-JEPA 2.1's are
INTERLEAVED (f0, f0, f1, f1, ..), which is a true rotation. Source: V-JEPA 2 (arXiv 2506.09985),
sec. 2.1.

Shapes: L tokens, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.models.fastest import Fastest

Tables = tuple[Tensor, Tensor]
TRAINED_SIDE = 16
"""Rows and columns of the grid that V-JEPA 2.1's interpolated positions span."""


def grid_positions(frames: int, rows: int, columns: int, *, interpolate: bool = False) -> Tensor:
    """Return positions [frames * rows * columns, 3] in token order (frame, row, column).

    With `interpolate`, rows and columns are scaled to span the trained grid.
    """
    row_scale = (TRAINED_SIDE - 1) / (rows - 1) if interpolate and rows > 1 else 1.0
    column_scale = (TRAINED_SIDE - 1) / (columns - 1) if interpolate and columns > 1 else 1.0
    axes = (
        torch.arange(frames, dtype=torch.float32),
        torch.arange(rows, dtype=torch.float32) * row_scale,
        torch.arange(columns, dtype=torch.float32) * column_scale,
    )
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def id_positions(token_ids: Tensor, rows: int, columns: int) -> Tensor:
    """Return positions [..., 3] (frame, row, column) of token ids [...]."""
    per_frame = rows * columns
    inside = token_ids % per_frame
    return torch.stack([token_ids // per_frame, inside // columns, inside % columns], -1).float()


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a vector in the data type of `like`, filled on its device.

    A copy of a vector from the host would stop the host at each call.
    """
    return torch.stack([like.new_full((), value) for value in values])


def rope_tables(positions_L3: Tensor, head_dim: int, layout: str) -> Tables:
    """Compute cosine and sine tables [L, C]; the sine includes the sign of its pair (-, +)."""
    span = 2 * ((head_dim // 3) // 2)
    k = torch.arange(span // 2, dtype=torch.float32, device=positions_L3.device)
    frequency = 1.0 / 10000 ** (k / (span / 2))
    parts = []
    for axis in range(3):
        angle = positions_L3[:, axis, None].float() * frequency
        tiled = torch.cat([angle, angle], dim=-1)
        parts.append(tiled if layout == "tiled" else angle.repeat_interleave(2, dim=-1))
    rest = torch.zeros(len(positions_L3), head_dim - 3 * span, device=positions_L3.device)
    angles_LC = torch.cat([*parts, rest], dim=-1)
    sign_C = constant((-1.0, 1.0), angles_LC).repeat(head_dim // 2)
    return angles_LC.cos(), angles_LC.sin() * sign_C


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotate x [..., C] by broadcastable tables."""
    return torch.addcmul(x * cos, swapped(x).to(cos.dtype), signed_sin).to(x.dtype)


def swapped(x: Tensor) -> Tensor:
    """Swap the two channels of each pair."""
    return x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


ROTATE = Fastest(rotate, lambda: torch.compile(rotate))
"""`rotate`, on CUDA as one kernel where that is faster: it reads and writes 4 bytes for a bfloat16
number, and the separate operators 34. With `dynamic=True`, all sizes would be unknown to the
kernel, which then reached a fifth of the memory's bandwidth."""


def rotate_pair(qk_BL2HC: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys together; return each as [B, H, L, C].

    Tables are [L, C], or [B, 1, L, C] if samples hold different tokens.
    """
    cos, sin = (t[:, None, None] if t.ndim == 2 else t.squeeze(1)[:, :, None, None] for t in tables)
    q_BLHC, k_BLHC = ROTATE(qk_BL2HC, cos, sin).unbind(2)
    return q_BLHC.transpose(1, 2), k_BLHC.transpose(1, 2)
