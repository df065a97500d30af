"""Clips whose states and actions have no rotation, from clips of poses.

Shapes: B clips, K frames, S state, A action.
"""

from __future__ import annotations

import numpy as np

from worldmodel.data.clip_source import ClipSource

COLUMNS = (0, 1, 2, 6)
"""Numbers of a pose [7] that remain: x, y, z, gripper."""


def without_rotation(values: np.ndarray) -> np.ndarray:
    """Return states or actions [..., 4] of poses [..., 7]."""
    return np.ascontiguousarray(values[..., COLUMNS])


class PositionClips:
    """A source of clips of which states [B, K, 4] and actions [B, K-1, 4] have no rotation."""

    def __init__(self, source: ClipSource) -> None:
        self.source = source

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.source)

    def content_hash(self) -> str:
        """Return the hash of the source's content and of its columns."""
        return f"{self.source.content_hash()}-position"

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the source's clips; see `ClipSource.batch`."""
        found = self.source.batch(indices)
        return found | {name: without_rotation(found[name]) for name in ("states", "actions")}
