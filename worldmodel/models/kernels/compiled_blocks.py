"""Transformer blocks whose parts beside attention torch compiles on CUDA.

Compiled, a residual connection and its layer norm become one kernel, as do GELU and the rotary
embedding. The first large input of a kind compiles for some seconds, and measures whether that was
of use (`Fastest`). On a CPU and for small inputs, the plain parts run; with gradients, too, except
in a `TrainedBlock`. Attention is not compiled: its kernel, mask and cache vary, and each variant
would compile the block anew.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from worldmodel.models.attention import Projected
from worldmodel.models.fastest import Fastest
from worldmodel.models.layers import Block
from worldmodel.models.rope import Tables

Module = TypeVar("Module", bound=nn.Module)


def _start(x: Tensor, block: Block, rope: Tables | None) -> Projected:
    return Block.start(block, x, rope)


def _end(x: Tensor, block: Block, attended: Tensor) -> Tensor:
    return Block.end(block, x, attended)


START = Fastest(_start, lambda: torch.compile(_start))
END = Fastest(_end, lambda: torch.compile(_end))


class CompiledBlock(Block):
    """`Block` with compiled parts; parameters and state dict are the same."""

    def start(self, x: Tensor, rope: Tables | None) -> Projected:
        """Compute the normalised tokens' queries, keys and values."""
        return super().start(x, rope) if torch.is_grad_enabled() else START(x, self, rope)

    def end(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the result of the attention, then the MLP's."""
        return super().end(x, attended) if torch.is_grad_enabled() else END(x, self, attended)


class TrainedBlock(Block):
    """`CompiledBlock` that is compiled with gradients as well, where both passes are faster."""

    def start(self, x: Tensor, rope: Tables | None) -> Projected:
        """Compute the normalised tokens' queries, keys and values."""
        return START(x, self, rope)

    def end(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the result of the attention, then the MLP's."""
        return END(x, self, attended)


def compile_blocks(model: Module, kind: type[Block] = CompiledBlock) -> Module:
    """Replace a model's plain blocks by compiled ones, in place; return the model."""
    for part in model.modules():
        if type(part) is Block:
            part.__class__ = kind
    return model
