"""Clips of several data sets in given shares.

Shapes: B clips, C all clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from worldmodel.data.cache import digest_of
from worldmodel.data.memory import MemoryClips
from worldmodel.errors import DataError


class ClipMix:
    """Clips of several data sets; each clip occurs at least once.

    Clips of data sets below their share are repeated, in order, until they have it.
    """

    def __init__(
        self, parts: Sequence[MemoryClips], shares: Sequence[float], names: Sequence[str]
    ) -> None:
        """Mix data sets.

        Args:
            parts: Clips of each data set, of equal length.
            shares: Share of each data set; they sum to 1.
            names: Folder of each data set, for messages.

        Raises:
            DataError: A data set has no clip of this length, or its arrays have other sizes, or
                only some of the data sets hold the actions as sent.
        """
        self.parts, self.shares, self.names = list(parts), list(shares), list(names)
        sizes = [len(part) for part in self.parts]
        for part, size, name in zip(self.parts, sizes, self.names, strict=True):
            self._require_like_first(part, size, name)
        total = max(size / share for size, share in zip(sizes, self.shares, strict=True))
        counts = [round(total * share) for share in self.shares]
        self.part_C = np.repeat(np.arange(len(counts)), counts)
        """Number of the data set of each clip."""
        self.clip_C = np.concatenate(
            [np.resize(np.arange(size), count) for size, count in zip(sizes, counts, strict=True)]
        )
        """Number of each clip in its data set."""

    def _require_like_first(self, part: MemoryClips, size: int, name: str) -> None:
        """Check that a data set has clips, of the same content as the first one's."""
        first = self.parts[0]
        if not size:
            raise DataError(
                f"{name} holds no clip of {part.num_frames} frames: lower num_frames, leave the "
                "folder out, or collect longer episodes"
            )
        if part.sent != first.sent:
            raise DataError(
                f"Of {self.names[0]} and {name}, one holds the actions as sent (action/delta) and "
                "the other does not; their gripper numbers differ in meaning: keep them apart"
            )
        shapes, found = (
            {key: array.shape[1:] for key, array in clips.served.items()} for clips in (first, part)
        )
        if shapes != found:
            raise DataError(
                f"The arrays of {name} have the sizes {found}, and those of {self.names[0]} have "
                f"{shapes}: use episodes of one size"
            )

    @property
    def sent(self) -> bool:
        """Whether actions are those sent, see `MemoryClips.sent`."""
        return self.parts[0].sent

    @property
    def labelled(self) -> bool:
        """Whether every frame has a simulated object position."""
        return all(part.labelled for part in self.parts)

    @property
    def posed(self) -> bool:
        """Whether every frame has the simulated poses of its objects."""
        return all(part.posed for part in self.parts)

    def __len__(self) -> int:
        """Return the number of clips, with repetitions."""
        return len(self.clip_C)

    def content_hash(self) -> str:
        """Return a hash of the arrays of all data sets and of their shares."""
        return digest_of([*(part.content_hash() for part in self.parts), self.shares])

    def mapped(self, change: Callable[[MemoryClips], MemoryClips]) -> ClipMix:
        """Return the same mix of changed data sets."""
        return ClipMix([change(part) for part in self.parts], self.shares, self.names)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return a batch as `MemoryClips.batch`."""
        out: dict[str, np.ndarray] = {}
        for number, part in enumerate(self.parts):
            here = np.flatnonzero(self.part_C[indices] == number)
            if not len(here):
                continue
            for name, values in part.batch(self.clip_C[indices[here]]).items():
                if name not in out:
                    out[name] = np.empty((len(indices), *values.shape[1:]), values.dtype)
                out[name][here] = values
        return out


MemorySource = MemoryClips | ClipMix
"""Clips of episodes that fit in memory."""
