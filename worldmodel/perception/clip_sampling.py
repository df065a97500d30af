"""Select the frames of a video's clips, as in the published video loader.

Shapes: K segments of a video, T frames of a clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from worldmodel.checked import Checked, between
from worldmodel.errors import DataError

COUNT = between(1, 2**16)


@dataclass(frozen=True, kw_only=True)
class ClipSampling(Checked):
    """Sampling of clips from a video."""

    num_frames: int = field(default=16, metadata=COUNT)
    """Number of frames of a clip."""
    frame_step: int = field(default=4, metadata=COUNT)
    """Number of frames of the video per frame of the clip; `fps` or `duration_s` override it."""
    fps: int | None = field(default=None, metadata=COUNT)
    """Frames of the clip per second of video [Hz]."""
    duration_s: float | None = field(default=None, metadata=between(1e-3, 1e6))
    """Duration of a clip [s]."""
    num_segments: int = field(default=1, metadata=COUNT)
    """Number of clips, spread evenly over the video."""
    random: bool = False
    """Whether to draw a clip's position within a longer segment; False uses the segment's start.
    The published evaluation also draws it, so long videos give a different clip each time."""
    allow_overlap: bool = True
    """Whether clips of a short video overlap; False repeats each segment's last frame."""

    @property
    def is_timed(self) -> bool:
        """Return whether frames are chosen by their times, not by their numbers."""
        return self.fps is not None or self.duration_s is not None

    def step_at(self, video_fps: float) -> int:
        """Return the number of video frames per clip frame at a frame rate [Hz].

        Raises:
            DataError: `fps` or `duration_s` needs more frames than the video has.
        """
        step = self.frame_step
        if self.fps is not None:
            step = math.ceil(video_fps) // self.fps
        elif self.duration_s is not None:
            step = int(self.duration_s * video_fps / self.num_frames)
        if step < 1:
            raise DataError(
                f"the video has {video_fps:g} frames per second, fewer than the sampling "
                f"(fps={self.fps}, duration_s={self.duration_s}) needs: lower fps or raise "
                "duration_s"
            )
        return step


def frame_numbers(
    length: int,
    sampling: ClipSampling,
    *,
    video_fps: float = 0.0,
    generator: RandomState | None = None,
) -> NDArray[np.int64]:
    """Return the frame numbers [K, T] of the clips of a video of `length` frames.

    The frames of a clip are spread evenly over `num_frames * step` frames, and the last frame of
    that range is never read, as published.

    Args:
        length: Number of frames of the video.
        sampling: Clip sampling options.
        video_fps: Frame rate of the video [Hz]; only `fps` and `duration_s` use it.
        generator: Random generator for `sampling.random`, with one draw per long segment.

    Raises:
        DataError: The video has fewer than two frames, or too low a frame rate.
    """
    count, segments = sampling.num_frames, sampling.num_segments
    if length < 2:
        raise DataError(f"the video has {length} frames; a clip needs at least 2")
    step = sampling.step_at(video_fps) if sampling.is_timed else sampling.frame_step
    span, part = count * step, length // segments
    if part > span:
        ends = [_end(span, part, sampling.random, generator) for _ in range(segments)]
        return np.stack([_spread(end - span, end, count) + i * part for i, end in enumerate(ends)])
    if not sampling.allow_overlap:
        clip = _padded(part, part, step, count)
        return np.stack([clip + i * part for i in range(segments)])
    clip = _padded(min(span, length) - 1, min(span, length) - 1, step, count)
    shift = (length - span) // (segments - 1) if length > span else 0
    return np.stack([clip + i * shift for i in range(segments)])


def _end(span: int, part: int, random: bool, generator: RandomState | None) -> int:
    if not random:
        return span
    assert generator is not None, "random sampling needs a generator"
    return int(generator.randint(span, part))


def _spread(start: int, end: int, count: int) -> NDArray[np.int64]:
    return np.linspace(start, end, num=count).clip(start, end - 1).astype(np.int64)


def _padded(last: int, pad: int, step: int, count: int) -> NDArray[np.int64]:
    """Spread `last // step` numbers over 0..last and repeat `pad` up to `count` numbers."""
    spread = np.linspace(0, last, num=last // step)[:count]
    padded = np.concatenate([spread, np.full(count - len(spread), pad)])
    return padded.clip(0, max(last - 1, 0)).astype(np.int64)
