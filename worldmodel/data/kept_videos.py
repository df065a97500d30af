"""Encoded videos of a data set that is being written, which the next run uses after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.atomic_io import sync_file
from worldmodel.data.writers.lerobot_video import Video
from worldmodel.kept_results import KeptResults


@dataclass(frozen=True)
class KeptVideos:
    """Facts of the videos of each finished episode."""

    results: KeptResults
    """Where the facts are kept, made by all that every video depends on beside its source."""

    def get(self, number: int, source: str, files: Mapping[str, Path]) -> dict[str, Video] | None:
        """Return the facts of an episode's videos by camera.

        They are None unless each video is complete and was encoded from this source.
        """
        found = self.results.get(str(number))
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
        self.results.add(str(number), {"source": source, "videos": rows})


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
