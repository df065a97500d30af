"""Read video frames by their index among the frames shown, never by the header's frame rate.

`worldmodel.data.video_file` defines which frames are shown, and how they are turned.

PyAV bundles FFmpeg and is always available. torchcodec (extra `video`) needs the system's FFmpeg
libraries; if it can be loaded, it reads the clips instead, see `choose_decoder`.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from worldmodel.data.episode import EpisodeError, Frames
from worldmodel.data.orientation import turn_of, upright
from worldmodel.data.video_file import VideoFacts, inspect_video, reading_video, video_stream
from worldmodel.errors import ConfigError

__all__ = [
    "DECODER",
    "VideoFacts",
    "VideoFrames",
    "choose_decoder",
    "inspect_video",
    "packet_facts",
]

Decoder = Literal["pyav", "torchcodec"]
DECODER = "WORLDMODEL_DECODER"
"""Environment variable that selects the decoder: `auto` (default), `pyav` or `torchcodec`."""


REMEMBERED = 1024
"""Number of videos whose packets are listed once. Recordings of hours are read at many places in
any order, and listing the packets reads the whole file. The 100 hours of EPIC-KITCHENS-100 are 700
videos, and take 400 MB."""


@lru_cache(maxsize=1)
def _torchcodec() -> tuple[Any, str]:
    """Return torchcodec's decoder class, or None, and the reason why it cannot be loaded."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # not installed, or FFmpeg or CUDA not found
        return None, next(iter(str(error).split("\n")), repr(error))
    return VideoDecoder, ""


def choose_decoder(wanted: str | None = None) -> Decoder:
    """Select the decoder of clips.

    Args:
        wanted: `auto`, `pyav` or `torchcodec`; None uses the environment variable
            WORLDMODEL_DECODER, else `auto`. `auto` is torchcodec if it can be loaded: on one thread
            its frames are bit-identical and it was never slower (h264 and AV1, whole videos and
            clips; benchmarks/results/data.json).

    Raises:
        ConfigError: The name is unknown, or torchcodec was requested and cannot be loaded.
    """
    wanted = wanted or os.environ.get(DECODER) or "auto"
    if wanted == "pyav":
        return "pyav"
    if wanted not in {"auto", "torchcodec"}:
        raise ConfigError(f"{DECODER}={wanted!r} is unknown: use auto, pyav or torchcodec")
    decoder, reason = _torchcodec()
    if decoder is not None:
        return "torchcodec"
    if wanted == "auto":
        return "pyav"
    raise ConfigError(
        f"{DECODER}=torchcodec, but torchcodec cannot be loaded ({reason}): pip install "
        "'worldmodel[video]' and install the system's FFmpeg libraries (Debian: apt-get install "
        f"ffmpeg), or set {DECODER}=pyav"
    )


@dataclass(frozen=True)
class VideoFrames:
    """Frames `first`, `first + 1`, ... of a file, one per control step."""

    path: Path
    """Video file."""
    num_frames: int
    """Number of frames of the episode."""
    first: int = 0
    """Index of the episode's first frame in the file."""
    size: tuple[int, int] | None = None
    """Height and width [px]; None if the video was not inspected."""

    def __len__(self) -> int:
        """Return the number of frames of the episode."""
        return self.num_frames

    def read(self, steps: NDArray[np.int64]) -> Frames:
        """Decode increasing steps [K] in one pass on one thread.

        Raises:
            EpisodeError: A step is not in the file.
            ConfigError: See `choose_decoder`.
        """
        wanted = [int(step) + self.first for step in steps]
        if choose_decoder() == "torchcodec":
            found = _read_by_torchcodec(self.path, wanted)
            if found is not None:
                return found
        return _read_by_pyav(self.path, wanted)


def _read_by_torchcodec(path: Path, wanted: list[int]) -> Frames | None:
    """Return None if torchcodec cannot read the frames, so that PyAV reads them or raises."""
    try:
        decoder = _torchcodec()[0](path, dimension_order="NHWC", num_ffmpeg_threads=1)
        batch = decoder.get_frames_at(wanted)
    except (IndexError, ValueError, RuntimeError):
        return None
    # torchcodec replaces a damaged frame by a neighbour, whose time then appears twice.
    doubtful = ((batch.pts_seconds.diff() > 0).numpy() != (np.diff(wanted) > 0)).any()
    if doubtful or decoder.metadata.rotation:  # torchcodec rotates the frames, PyAV does not
        return None
    frames: Frames = batch.data.numpy()
    return frames


@dataclass(frozen=True)
class _Order:
    """Order in which the frames of a file are shown.

    Frame indices are ranks of presentation times, so a wrong frame rate does not matter.
    """

    stamps: array[int]
    """Presentation times of all frames in order, in the file's unit."""
    keys: array[int]
    """Those of the key frames."""

    def key_before(self, number: int) -> int:
        """Return the time of the last key frame up to frame `number`."""
        rank = bisect_right(self.keys, self.stamps[number])
        return self.keys[rank - 1] if rank else self.stamps[0]

    def number_of(self, stamp: int | None) -> int | None:
        """Return the index of the frame shown at a time, or None if there is none."""
        rank = 0 if stamp is None else bisect_right(self.stamps, stamp)
        return rank - 1 if rank and self.stamps[rank - 1] == stamp else None


@lru_cache(maxsize=REMEMBERED)
def _packet_facts(path: Path, _stamp: tuple[int, int]) -> VideoFacts:
    return inspect_video(path, decode=False)


def packet_facts(path: Path) -> VideoFacts:
    """Count the packets of a file that is read at many places, once as long as it is unchanged.

    Raises:
        EpisodeError: See `inspect_video`.
    """
    if not path.is_file():
        return inspect_video(path, decode=False)
    return _packet_facts(path, _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


@lru_cache(maxsize=REMEMBERED)
def _order(path: Path, stamp: tuple[int, int]) -> _Order | None:
    """Read the packets of a file once; `stamp` is its modification time and size.

    None means that frames must be counted from the file's start: where an edit list hides frames,
    whose stamps may repeat, or where stamps are missing.
    """
    stamps, keys = [], []
    with reading_video(path) as container:
        for packet in container.demux(video_stream(container)):
            if not packet.size:
                continue
            if packet.is_discard or packet.pts is None:
                return None
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    return _Order(array("q", sorted(stamps)), array("q", sorted(keys)))


def _read_by_pyav(path: Path, wanted: list[int]) -> Frames:
    order, first = None, min(wanted)
    if first and path.is_file():
        order = _order(path, _stamp(path))
    if order is not None and first >= len(order.stamps):
        count = len(order.stamps)
        raise EpisodeError("video_too_short", f"{path.name} has {count} frames, none at {first}")
    with reading_video(path) as container:
        key = 0
        if order is not None:
            stream, stamp = video_stream(container), order.key_before(first)
            container.seek(stamp, stream=stream, backward=True)
            key = order.number_of(stamp) or 0
        found = dict(_frames(path, container, set(wanted), order, key))
    missing = [step for step in wanted if step not in found]
    if missing:
        raise EpisodeError("video_too_short", f"{path.name} has no frame {missing[0]}")
    return np.stack([found[step] for step in wanted])


def _frames(
    path: Path,
    container: av.container.InputContainer,
    wanted: set[int],
    order: _Order | None,
    key: int,
) -> Iterator[tuple[int, Frames]]:
    """Yield the wanted frames with their numbers; without `order`, all frames are counted.

    A damaged frame from key frame `key` on is an error: FFmpeg fills its gaps with other pixels,
    and frames that follow are predicted from it.
    """
    stream = video_stream(container)
    stream.thread_type = "NONE"
    last, number, turn = max(wanted), 0, None
    try:
        for frame in container.decode(stream):
            known = None if order is None else order.number_of(frame.pts)
            number = number if known is None else known
            if frame.is_corrupt and number >= key:
                raise EpisodeError("video_damaged", f"frame {number} of {path.name} is damaged")
            if number in wanted:
                turn = turn or turn_of(frame)
                yield number, upright(frame, turn)
            number += 1
            if number > last:
                return
    except av.FFmpegError as error:
        raise EpisodeError(
            "video_truncated", f"{path.name} breaks off at frame {number} ({error})"
        ) from error
