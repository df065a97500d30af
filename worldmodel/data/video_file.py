"""Open a video file, and list its frames as a player shows them.

Frames that an edit list hides do not count; frames are turned as the display matrix says; times are
those of the file, which may vary from frame to frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from worldmodel.data.episode import Array, EpisodeError, Frames
from worldmodel.data.orientation import (
    UPRIGHT,
    Turn,
    has_alpha,
    require_opaque,
    shown_size,
    turn_of,
    upright,
)
from worldmodel.errors import DataError

MAX_PIXELS = 2**26
"""Largest frame that is decoded (8192 x 8192 px); a file may declare any size."""
OPENING = {
    "format_whitelist": "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg",
    "protocol_whitelist": "file",
}
"""Containers that hold their own frames: FFmpeg goes by content, and a text named `a.mp4` may be a
list of other files, also behind links, or an address."""
MAX_PLAYED = 10_000_000
"""Maximum number of steps of `VideoFacts.played`, 46 hours at 60 Hz; a file may claim any gap."""


@dataclass(frozen=True)
class VideoFacts:
    """Properties of a video, measured in one pass."""

    frames: int
    """Number of frames shown."""
    width: int
    """Width as shown [px]."""
    height: int
    """Height as shown [px]."""
    header_fps: float
    """Frame rate claimed by the header [Hz]."""
    times_s: Array = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)
    """Time of each frame since the first one [s]; empty if the file has no times."""

    def played(self) -> tuple[NDArray[np.int64], float]:
        """Return the frames on the screen at a constant rate.

        For a constant frame rate these are all frames, at the header's rate. For a variable one, a
        frame is held until the next one, as players do, at the rate of the median interval.

        Returns:
            Frame indices [N], and the rate [Hz].

        Raises:
            EpisodeError: The times span an absurd number of steps.
        """
        numbers = np.arange(self.frames)
        steps_s = np.diff(self.times_s)
        steady = not (steps_s > 0).any() or self.header_fps <= 0
        if steady or np.abs(self.times_s - numbers / self.header_fps).max() * self.header_fps < 1:
            return numbers, self.header_fps
        rate = 1 / float(np.median(steps_s[steps_s > 0]))
        count = 1 + round(float(self.times_s[-1]) * rate)
        if count > MAX_PLAYED:
            raise EpisodeError(
                "video_damaged",
                f"its {self.frames} frames span {self.times_s[-1]:.3g} s, {count} steps of their "
                f"median interval; at most {MAX_PLAYED} are played",
            )
        at = np.arange(count) / rate + 0.25 / rate
        return np.searchsorted(self.times_s, at, side="right") - 1, rate


@dataclass(frozen=True)
class ShownFrame:
    """A decoded frame and its time."""

    time_s: float
    """Time since the first frame [s]."""
    frame: av.VideoFrame
    turn: Turn
    """How the frame is turned to be shown."""

    def pixels(self) -> Frames:
        """Return uint8 RGB [H, W, 3], right side up."""
        return upright(self.frame, self.turn)


def open_video(path: Path) -> av.container.InputContainer:
    """Open a regular file with at least one video stream.

    Raises:
        EpisodeError: The file is missing, is not a video, or declares frames of an absurd size.
    """
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "does not exist"
        raise EpisodeError("video_missing", f"{path} {problem}")
    if path.stat().st_size == 0:
        raise EpisodeError("video_truncated", f"{path.name} is empty")
    try:
        container = av.open(str(path), metadata_errors="replace", container_options=OPENING)
    except av.FFmpegError as error:
        raise EpisodeError(
            "video_truncated", f"{path.name} cannot be opened ({error}): cut off, or not a video"
        ) from error
    if not container.streams.video:
        container.close()
        raise EpisodeError("video_truncated", f"{path.name} holds no video stream")
    # typed as always present, and None where this FFmpeg has no decoder
    coded: av.VideoCodecContext | None = video_stream(container).codec_context
    if coded is None:
        container.close()
        raise EpisodeError("video_damaged", f"{path.name} has a video stream of an unknown codec")
    if coded.width * coded.height > MAX_PIXELS:
        container.close()
        raise EpisodeError(
            "video_damaged",
            f"{path.name} declares frames of {coded.width} x {coded.height} px; at most "
            f"{MAX_PIXELS} pixels are decoded",
        )
    coded.options = {"max_pixels": str(MAX_PIXELS)}
    return container


@contextlib.contextmanager
def reading_video(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a video for the block, in which any fault of the file becomes an `EpisodeError`."""
    with open_video(path) as container:
        try:
            yield container
        except DataError:
            raise
        except Exception as error:  # libraries raise errors of any kind for damaged headers
            raise EpisodeError(
                "video_damaged", f"{path.name} cannot be read ({type(error).__name__}: {error})"
            ) from error


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Return the video stream that players show, which is not always the first one.

    A file may also hold a cover picture, a thumbnail or a smaller copy.
    """
    best = container.streams.best("video")
    return best if isinstance(best, av.VideoStream) else container.streams.video[0]


def _num_listed(container: av.container.InputContainer) -> int:
    """Return the number of frames that the file promises; 0 if unknown.

    A MOV or MP4 file also lists frames that its edit list leaves out; FFmpeg's index does not.
    """
    stream = video_stream(container)
    entries = getattr(stream, "index_entries", None)  # missing in some versions of PyAV
    return len(entries) if entries and "mov" in container.format.name else stream.frames


def _seconds(stamps: list[int], stream: av.VideoStream) -> Array:
    """Return times since the first frame [s] from stamps, in order of time."""
    if not stamps or stream.time_base is None:
        return np.zeros(0)
    sorted_T = np.sort(np.asarray(stamps, np.int64))
    return (sorted_T - sorted_T[0]).astype(np.float64) * float(stream.time_base)


@dataclass
class _Count:
    """State of one pass over a file."""

    shown: int = 0
    hidden: int = 0
    size: tuple[int, int] = (0, 0)
    stamps: list[int] = field(default_factory=list)

    def add(self, stamp: int | None) -> None:
        self.shown += 1
        if stamp is not None:
            self.stamps.append(stamp)


def _count_packets(container: av.container.InputContainer, path: Path, count: _Count) -> None:
    """Count packets; decode one frame, which tells the size as shown."""
    stream = video_stream(container)
    for packet in container.demux(stream):
        if packet.size and packet.is_discard:
            count.hidden += 1
        elif packet.size:
            count.add(packet.pts)
            if count.shown == 1 and not count.hidden:
                frames = packet.decode() or stream.codec_context.decode(None)
                count.size = shown_size(frames[0]) if frames else count.size
    if count.shown and not any(count.size):  # the first packet alone gives no frame
        with reading_video(path) as again:
            count.size = shown_size(next(again.decode(video_stream(again))))


def _count_frames(container: av.container.InputContainer, path: Path, count: _Count) -> None:
    height = width = 0
    checks_alpha = False
    for packet in container.demux(video_stream(container)):
        if packet.is_discard and packet.size:
            count.hidden += 1
        for frame in packet.decode():
            if not count.shown:
                height, width, count.size = frame.height, frame.width, shown_size(frame)
                checks_alpha = has_alpha(frame)
            if frame.is_corrupt or frame.width != width or frame.height != height:
                raise EpisodeError(
                    "video_damaged",
                    f"frame {count.shown} of {path.name} is damaged or changes size",
                )
            if checks_alpha:
                require_opaque(frame)
            count.add(frame.pts)


def inspect_video(path: Path, *, decode: bool = True) -> VideoFacts:
    """Count the frames of a file with PyAV, which reports damaged frames.

    Args:
        path: Video file.
        decode: Whether to decode every frame, which detects damage; False only counts packets.

    Raises:
        EpisodeError: The file is missing, truncated or damaged.
    """
    with reading_video(path) as container:
        stream = video_stream(container)
        stream.thread_type = "NONE"
        fps = float(stream.average_rate or 0)
        listed, count = _num_listed(container), _Count()
        try:
            if decode:
                _count_frames(container, path, count)
            else:
                _count_packets(container, path, count)
        except av.FFmpegError as error:
            raise EpisodeError(
                "video_truncated", f"{path.name} breaks off after {count.shown} frames ({error})"
            ) from error
        times_s = _seconds(count.stamps, stream)
    if listed and count.shown + count.hidden < listed:
        raise EpisodeError(
            "video_truncated",
            f"{path.name} lists {listed} frames and holds {count.shown + count.hidden}",
        )
    if not count.shown:
        raise EpisodeError("video_truncated", f"{path.name} shows no frame")
    height, width = count.size
    whole = len(times_s) == count.shown
    return VideoFacts(count.shown, width, height, fps, times_s if whole else np.zeros(0))


def shown_frames(path: Path) -> Iterator[ShownFrame]:
    """Decode a file from its start, frame by frame.

    Raises:
        EpisodeError: The file is missing, truncated or damaged, or its frames have no times.
    """
    with reading_video(path) as container:
        stream = video_stream(container)
        start_s, size, turn, number = None, None, UPRIGHT, 0
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    raise EpisodeError(
                        "video_damaged",
                        f"frame {number} of {path} has no time: a raw stream "
                        "needs a container, for example `ffmpeg -i IN -c copy OUT.mp4`",
                    )
                start_s = frame.time if start_s is None else start_s
                if size is None:
                    size, turn = (frame.height, frame.width), turn_of(frame)
                if frame.is_corrupt or size != (frame.height, frame.width):
                    raise EpisodeError(
                        "video_damaged", f"frame {number} of {path} is damaged or changes size"
                    )
                yield ShownFrame(frame.time - start_s, frame, turn)
                number += 1
        except av.FFmpegError as error:
            raise EpisodeError(
                "video_truncated", f"{path} cannot be decoded from frame {number} on ({error})"
            ) from error
