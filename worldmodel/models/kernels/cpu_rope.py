"""CPU rotary embedding: without gradients in the data type of its input, with them in float32.

Without gradients, it takes half the time of the plain rotation in float32, and its memory layout is
the one that `cpu_attention` reads, which saves a copy. With them, pairs of channels are complex
numbers, whose product and its gradient take half the time of the plain rotation's.

Shapes: B batch, L tokens, H heads, C channels of a head; 2 is queries and keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.models.rope import Tables, swapped


def rotate_pair_in_dtype(qk_BL2HC: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys without gradients; return each as [B, H, L, C], contiguous.

    It agrees with `rope.rotate_pair` up to the rounding of the input's data type.
    """
    qk_2BHLC = qk_BL2HC.permute(2, 0, 3, 1, 4)
    cos, signed_sin = (table.to(qk_2BHLC.dtype) for table in tables)
    rotated = torch.mul(qk_2BHLC, cos, out=torch.empty(qk_2BHLC.shape, dtype=qk_2BHLC.dtype))
    q_BHLC, k_BHLC = rotated.addcmul_(_swapped_halves(qk_2BHLC), signed_sin).unbind(0)
    return q_BHLC, k_BHLC


def can_turn_pairs(qk_BL2HC: Tensor, tables: Tables) -> bool:
    """Return whether tables turn both channels of each pair by one angle: layout `interleaved`."""
    cos, signed_sin = tables
    return (
        qk_BL2HC.dtype != torch.float64
        and torch.equal(cos[..., ::2], cos[..., 1::2])
        and torch.equal(signed_sin[..., ::2], -signed_sin[..., 1::2])
    )


def turn_pairs(qk_BL2HC: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys as `rope.rotate_pair` does, for tables of `can_turn_pairs`."""
    cos, sin = (
        (table[:, None, None] if table.ndim == 2 else table.squeeze(1)[:, :, None, None])[..., 1::2]
        for table in tables
    )
    pairs = torch.view_as_complex(qk_BL2HC.float().unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
    q_BLHC, k_BLHC = turned.to(qk_BL2HC.dtype).unbind(2)
    return q_BLHC.transpose(1, 2), k_BLHC.transpose(1, 2)


def _swapped_halves(x: Tensor) -> Tensor:
    """Swap the channels of each pair; two bfloat16 are the halves of one int32."""
    if x.dtype != torch.bfloat16:
        return swapped(x)
    pairs = x.view(torch.int32)
    return (pairs >> 16).bitwise_and_(0xFFFF).bitwise_or_(pairs << 16).view(torch.bfloat16)
