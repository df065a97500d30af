"""Token distance used in training, evaluation and planning.

Shapes: B samples, N tokens, D width.
"""

from __future__ import annotations

from torch import Tensor


def token_distance(z_BND: Tensor, target_BND: Tensor) -> Tensor:
    """Return the mean absolute difference [B] between tokens and their target.

    Either argument may have batch 1. A target of fewer tokens, such as a goal of the main view of
    several, is compared with the first ones. Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.3.
    """
    return (z_BND[..., : target_BND.shape[-2], :] - target_BND).abs().flatten(1).mean(1)
