"""Rotary embedding on a CPU without gradients, in the data type of its input.

Half the time of the plain rotation in float32, and the result already lies as the matrix products
of `cpu_attention` read it, which saves a copy.

Shapes: B batch, L tokens, H heads, C channels of a head; 2 is queries and keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.models.rope import Tables, swapped


def rotate_pair_in_dtype(qk_BL2HC: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys without gradients; return each as [B, H, L, C], contiguous.

    Agrees with `rope.rotate_pair` to the rounding of the input's data type.
    """
    qk_2BHLC = qk_BL2HC.permute(2, 0, 3, 1, 4)
    cos, signed_sin = (table.to(qk_2BHLC.dtype) for table in tables)
    rotated = torch.mul(qk_2BHLC, cos, out=torch.empty(qk_2BHLC.shape, dtype=qk_2BHLC.dtype))
    q_BHLC, k_BHLC = rotated.addcmul_(_swapped_halves(qk_2BHLC), signed_sin).unbind(0)
    return q_BHLC, k_BHLC


def _swapped_halves(x: Tensor) -> Tensor:
    """Exchange the channels of each pair; two bfloat16 are the halves of one int32."""
    if x.dtype != torch.bfloat16:
        return swapped(x)
    pairs = x.view(torch.int32)
    return (pairs >> 16).bitwise_and_(0xFFFF).bitwise_or_(pairs << 16).view(torch.bfloat16)
