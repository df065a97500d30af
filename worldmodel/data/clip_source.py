"""Protocol of all sources of training clips: in-memory, prepared, or raw episodes.

Shapes: B clips, K frames, V views, H W pixels, N tokens, D width, S state, A action.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class ClipSource(Protocol):
    """Clips of equal length, addressed by index."""

    def __len__(self) -> int:
        """Return the number of clips."""

    def content_hash(self) -> str:
        """Return a hash of what all clips are read from, which does not depend on its folder."""

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return `frames` uint8 [B,K,H,W,3] or `features` [B,K,N,D], `states` and `actions`.

        States are [B,K,S], actions [B,K-1,A], both float32. Simulated sources add `objects` [B,K,3]
        (NaN where unknown); sources with camera poses add `extrinsics` [B,K,6]. Frames of several
        views are [B,K,V,H,W,3], and their features hold the tokens of all views.
        """
