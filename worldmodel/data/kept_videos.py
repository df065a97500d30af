"""Encoded videos of a data set that is being written, which the next run uses after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from worldmodel.atomic_io import sync_file
from worldmodel.data.writers.lerobot_video import Video
from worldmodel.kept_results import KeptResults


class KeptVideos:
    """Facts of the videos of each finished episode, kept in a file of JSON lines.

    Use it as a context manager, which closes the file.
    """

    def __init__(self, path: Path | None, made_by: Mapping[str, object]) -> None:
        """Read what a stopped run left.

        Args:
            path: File of the facts; None keeps nothing.
            made_by: All that every video depends on beside its source; videos that were made by
                something else are not used.
        """
        self._results = KeptResults(path, made_by, fits=lambda value: isinstance(value, dict))

    def get(self, number: int, source: str, files: Mapping[str, Path]) -> dict[str, Video] | None:
        """Return the facts of an episode's videos by camera.

        They are None unless each video is complete and was encoded from this source.
        """
        found = self._results.get(str(number))
        if not source or not isinstance(found, dict) or found.get("source") != source:
            return None
        try:
            return {camera: _read(found["videos"][camera], file) for camera, file in files.items()}
        except (OSError, KeyError, TypeError, ValueError, OverflowError):  # lost, torn or foreign
            return None

    def add(
        self, number: int, source: str, files: Mapping[str, Path], videos: Mapping[str, Video]
    ) -> None:
        """Keep the facts of an episode's videos, which are complete."""
        if not source:
            return
        rows = {camera: _row(videos[camera], file) for camera, file in files.items()}
        self._results.add(str(number), {"source": source, "videos": rows})

    def __enter__(self) -> KeptVideos:
        """Return the facts."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._results.__exit__(kind, error, at)


def _row(video: Video, file: Path) -> dict[str, object]:
    """Return the JSON serialisable facts of a video, which reaches the disk before them."""
    sync_file(file)
    return {
        "bytes": file.stat().st_size,
        "numbers": [video.length, video.height, video.width, video.sampled],
        "counts": video.counts.tolist(),
    }


def _read(row: Mapping[str, object], file: Path) -> Video:
    """Return the facts of a video.

    Raises:
        ValueError: The file has another size, or the row is not of a video.
    """
    if file.stat().st_size != row["bytes"]:
        raise ValueError(f"{file} is not complete")
    length, height, width, sampled = np.array(row["numbers"], dtype=np.int64).tolist()
    counts = np.array(row["counts"], dtype=np.int64).reshape(3, 256)
    return Video(length=length, height=height, width=width, counts=counts, sampled=sampled)
