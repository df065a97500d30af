"""Replace a model's layers by fast CPU implementations.

A layer keeps its parameters and state dict; only its class changes, to a subclass with a faster
`forward`. If the fast path does not apply (gradients, another device, a mask), the subclass falls
back to the plain layer, so an optimised model may still be trained or moved.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from worldmodel.models.attention import Attention, Cache, CrossAttention, Mask, attend_or_fall_back
from worldmodel.models.encoder import PatchEmbed
from worldmodel.models.kernels.cpu_attention import attend_in_blocks, can_use_fast_path
from worldmodel.models.kernels.cpu_linear import linear, linear_gelu
from worldmodel.models.kernels.cpu_rope import can_turn_pairs, rotate_pair_in_dtype, turn_pairs
from worldmodel.models.kernels.shared_prefix_attention import attend_with_shared_prefix
from worldmodel.models.layers import Mlp
from worldmodel.models.rope import Tables, rotate_pair

Module = TypeVar("Module", bound=nn.Module)


BLOCK_LENGTH = 64
"""Number of keys up to which torch's attention is faster than `attend_in_blocks`, which makes calls
for each sample."""


class CpuLinear(nn.Linear):
    """`nn.Linear` that calls the faster of torch's two matrix libraries."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., I] to [..., O]."""
        return linear(x, self.weight, self.bias)


class CpuMlp(Mlp):
    """`Mlp` with the first layer and GELU fused."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        out: Tensor = self.fc2(linear_gelu(x, self.fc1.weight, self.fc1.bias))
        return out


class CpuAttention(Attention):
    """`Attention` by matrix products, with one copy of shared keys and values."""

    def rotate(self, qk_BL2HC: Tensor, rope: Tables) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys; return each as [B, H, L, C]."""
        if qk_BL2HC.device.type != "cpu":
            return rotate_pair(qk_BL2HC, rope)
        if not torch.is_grad_enabled():
            return rotate_pair_in_dtype(qk_BL2HC, rope)
        return (turn_pairs if can_turn_pairs(qk_BL2HC, rope) else rotate_pair)(qk_BL2HC, rope)

    def attend(
        self, q: Tensor, own: Cache, mask: Mask | None = None, shared: Cache | None = None
    ) -> Tensor:
        """Attend to `own` keys and values, and to `shared` ones [1, H, S, C] before them."""
        if shared is not None and q.device.type == "cpu":
            return attend_with_shared_prefix(q, own, shared)
        if shared is None and self.backend == "auto" and _is_long(q, own[0], mask):
            return attend_in_blocks(q, *own)
        return super().attend(q, own, mask, shared)


class CpuCrossAttention(CrossAttention):
    """`CrossAttention` by matrix products."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to all keys."""
        if self.backend == "auto" and _is_long(q, k, None):
            return attend_in_blocks(q, k, v)
        return attend_or_fall_back(q, k, v, None, self.backend)


def _is_long(q: Tensor, k: Tensor, mask: Mask | None) -> bool:
    return k.shape[2] > BLOCK_LENGTH and can_use_fast_path(q, k, mask)


class CpuPatchEmbed(PatchEmbed):
    """`PatchEmbed` as one matrix product in bfloat16, which halves its time."""

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Embed a clip as tokens [B, N, D]."""
        x = clip_BCTHW
        if x.device.type != "cpu" or x.dtype != torch.bfloat16 or torch.is_grad_enabled():
            return super().forward(x)
        return linear(self.pixels(x), self.proj.weight.flatten(1), self.proj.bias)


FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: CpuLinear,
    Mlp: CpuMlp,
    Attention: CpuAttention,
    CrossAttention: CpuCrossAttention,
    PatchEmbed: CpuPatchEmbed,
}
"""Plain layer -> subclass with a fast CPU path."""


def optimize_for_cpu(model: Module) -> Module:
    """Replace a model's plain layers by fast CPU ones, in place.

    Outputs agree with the plain layers up to rounding. Layers of other classes are unchanged.

    Returns:
        The same model.
    """
    for part in model.modules():
        fast = FAST.get(type(part))
        if fast is not None:
            part.__class__ = fast
    return model
