"""Read videos of pair sets, and match the four videos of an IntPhys scene.

Shapes: T frames, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.cache import digest_of
from worldmodel.data.pictures import read_picture
from worldmodel.data.video import VideoFrames, inspect_video
from worldmodel.errors import DataError
from worldmodel.perception.hdf5_file import source_stamp


@dataclass(frozen=True)
class Video:
    """Frames of a video file or of a folder of images."""

    path: Path
    first: int = 0
    """Index of the first frame to use."""
    whole_steps: bool = False
    """Whether to use only the first (n - 1) // step * step of n frames, as published for
    IntPhys."""

    def frames(self, step: int = 1) -> Tensor:
        """Read every `step`-th frame: uint8 RGB [T, H, W, 3].

        Raises:
            DataError: The video is missing, damaged, or has no frame from `first` on.
        """
        files = _pictures(self.path) if self.path.is_dir() else None
        count = inspect_video(self.path, decode=False).frames if files is None else len(files)
        last = self.first + (count - self.first - 1) // step * step if self.whole_steps else count
        numbers = np.arange(self.first, last, step)
        if not len(numbers):
            raise DataError(
                f"{self.path} has {count} frames; needed: one from {self.first} on at step {step}"
            )
        if files is None:
            return torch.from_numpy(VideoFrames(self.path, count).read(numbers))
        pictures = [read_picture(files[i]) for i in numbers]
        sizes = sorted({picture.shape[:2] for picture in pictures})
        if len(sizes) > 1:
            raise DataError(f"{self.path} has pictures of several sizes: {sizes}")
        return torch.from_numpy(np.stack(pictures))

    def stamp(self) -> str:
        """Return what changes when the video does: path, first frame, sizes and times of files."""
        files = _pictures(self.path) if self.path.is_dir() else [self.path]
        facts = [(str(self.path), self.first, self.whole_steps), *map(source_stamp, files)]
        return digest_of([str(fact) for fact in facts])


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".jpeg"})


def breaking_point(first_THWC: Tensor, second_THWC: Tensor, *, as_released: bool = False) -> int:
    """Return the index of the first frame in which two videos differ, or their length.

    With `as_released` only the sums over all pixels are compared, which can miss a displacement.

    Raises:
        DataError: The videos differ in length or size.
    """
    if first_THWC.shape != second_THWC.shape:
        raise DataError(f"videos of a scene: {first_THWC.shape} and {second_THWC.shape} differ")
    for number, (one, two) in enumerate(zip(first_THWC, second_THWC, strict=True)):
        same = int(one.long().sum()) == int(two.long().sum()) if as_released else one.equal(two)
        if not same:
            return number
    return len(first_THWC)


def match_scene(
    videos: Sequence[Tensor], *, as_released: bool = False
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Divide the four videos of an IntPhys scene into pairs with a common start.

    The partner of video 0 is the first among those that diverge from it last.

    Raises:
        DataError: There are not four videos, or they differ in length or size.
    """
    if len(videos) != 4:
        raise DataError(f"a scene has {len(videos)} videos; needed: 4")
    points = [breaking_point(videos[0], v, as_released=as_released) for v in videos[1:]]
    partner = 1 + points.index(max(points))
    rest = [i for i in (1, 2, 3) if i != partner]
    return (0, partner), (rest[0], rest[1])
