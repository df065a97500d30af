"""Several views of a frame: their tokens lie one behind the other.

Every view is encoded by itself, so the tokens of a view depend on no other view, a frozen encoder
needs no change, and kept features of one view stay valid. The first view is the main one.

Shapes: B frames, V views, H W pixels, N tokens of all views, D width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def encode_views(encode: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """Encode frames of one view [B, H, W, 3] or of several [B, V, H, W, 3].

    Args:
        encode: Function from frames [B, H, W, 3] to their tokens.
        frames: uint8 RGB.

    Returns:
        Tokens [B, N, D], those of the first view first.
    """
    if frames.ndim < 5:
        return encode(frames)
    views = frames.shape[1]
    return encode(frames.flatten(0, 1)).unflatten(0, (-1, views)).flatten(1, 2)
