"""Frames of a video by their number in the file, never by the header's frame rate.

PyAV, which brings its own FFmpeg, always reads them. torchcodec (extra `video`) needs the system's
FFmpeg libraries; where it loads it takes its place for reading clips: see `choose_decoder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from worldmodel.data.episode import EpisodeError, Frames
from worldmodel.errors import ConfigError

Decoder = Literal["pyav", "torchcodec"]
DECODER = "WORLDMODEL_DECODER"
"""Environment variable: `auto` (default), `pyav` or `torchcodec`."""


@dataclass(frozen=True)
class VideoFacts:
    """What a pass over a video found."""

    frames: int
    width: int
    height: int
    header_fps: float


@lru_cache(maxsize=1)
def _torchcodec() -> tuple[Any, str]:
    """Its decoder class, or None and the reason."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:  # absent; FFmpeg or CUDA not found
        return None, next(iter(str(error).split("\n")), repr(error))
    return VideoDecoder, ""


def choose_decoder(wanted: str | None = None) -> Decoder:
    """Who decodes: `wanted`, else what the environment variable WORLDMODEL_DECODER says.

    `auto` is torchcodec where it loads: on one thread it gave the same frames bit for bit and was
    never slower (h264 and AV1, whole videos and clips; benchmarks/results/data.json).

    Raises:
        ConfigError: unknown name, or torchcodec was asked for and does not load.
    """
    wanted = wanted or os.environ.get(DECODER) or "auto"
    if wanted == "pyav":
        return "pyav"
    if wanted not in {"auto", "torchcodec"}:
        raise ConfigError(f"{DECODER}={wanted!r}: wanted auto, pyav or torchcodec")
    decoder, reason = _torchcodec()
    if decoder is not None:
        return "torchcodec"
    if wanted == "auto":
        return "pyav"
    raise ConfigError(
        f"{DECODER}=torchcodec, but it does not load ({reason}): pip install 'worldmodel[video]' "
        f"and the system's FFmpeg libraries (Debian: apt-get install ffmpeg), or {DECODER}=pyav"
    )


def _open(path: Path) -> av.container.InputContainer:
    if not path.is_file():
        raise EpisodeError("video_missing", f"{path} is not there")
    if path.stat().st_size == 0:
        raise EpisodeError("video_truncated", f"{path.name} is empty")
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise EpisodeError(
            "video_truncated", f"{path.name} cannot be opened ({error}): cut off or no video"
        ) from error
    if not container.streams.video:
        container.close()
        raise EpisodeError("video_truncated", f"{path.name} holds no video stream")
    return container


def inspect_video(path: Path, *, decode: bool = True) -> VideoFacts:
    """Count the frames that are really in a file; by PyAV, which tells damaged frames.

    Args:
        path: an MP4.
        decode: decode every frame (finds damage inside); False counts packets only.

    Raises:
        EpisodeError: missing, cut off or damaged.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        fps = float(stream.average_rate or 0)
        listed, size, count = stream.frames, (stream.width, stream.height), 0
        try:
            if decode:
                for frame in container.decode(stream):
                    if frame.is_corrupt or (frame.width, frame.height) != size:
                        raise EpisodeError(
                            "video_damaged",
                            f"frame {count} of {path.name} is damaged or changes size",
                        )
                    count += 1
            else:
                count = sum(1 for packet in container.demux(stream) if packet.size)
        except av.FFmpegError as error:
            raise EpisodeError(
                "video_truncated", f"{path.name} breaks off after {count} frames ({error})"
            ) from error
    if listed and count < listed:
        raise EpisodeError(
            "video_truncated", f"{path.name} lists {listed} frames and holds {count}"
        )
    return VideoFacts(count, *size, fps)


@dataclass(frozen=True)
class VideoFrames:
    """Frames `first`, `first + 1`, ... of a file, one per control step."""

    path: Path
    num_frames: int
    first: int = 0
    size: tuple[int, int] | None = None
    """Height and width [px], when somebody looked."""

    def __len__(self) -> int:
        """Frames of the episode."""
        return self.num_frames

    def read(self, steps: NDArray[np.int64]) -> Frames:
        """Decode the asked steps (rising) in one pass, on one thread; stops at the last one.

        Raises:
            EpisodeError: a step is not in the file.
            ConfigError: see `choose_decoder`.
        """
        wanted = [int(step) + self.first for step in steps]
        if choose_decoder() == "torchcodec":
            found = _read_by_torchcodec(self.path, wanted)
            if found is not None:
                return found
        return _read_by_pyav(self.path, wanted)


def _read_by_torchcodec(path: Path, wanted: list[int]) -> Frames | None:
    """None where it cannot: then PyAV reads the frames (a codec it lacks) or names the fault."""
    try:
        decoder = _torchcodec()[0](path, dimension_order="NHWC", num_ffmpeg_threads=1)
        batch = decoder.get_frames_at(wanted)
    except (IndexError, ValueError, RuntimeError):
        return None
    # for a frame that damage took away it shows a neighbour: its time comes twice
    doubtful = ((batch.pts_seconds.diff() > 0).numpy() != (np.diff(wanted) > 0)).any()
    if doubtful or decoder.metadata.rotation:  # it would turn the frames, and PyAV does not
        return None
    frames: Frames = batch.data.numpy()
    return frames


def _read_by_pyav(path: Path, wanted: list[int]) -> Frames:
    with _open(path) as container:
        found = dict(_frames(path, container, set(wanted)))
    missing = [step for step in wanted if step not in found]
    if missing:
        raise EpisodeError("video_too_short", f"{path.name} has no frame {missing[0]}")
    return np.stack([found[step] for step in wanted])


def _frames(
    path: Path, container: av.container.InputContainer, wanted: set[int]
) -> Iterator[tuple[int, Frames]]:
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    last = max(wanted)
    ranks = _seek(path, container, min(wanted))
    number = 0
    try:
        for frame in container.decode(stream):
            number = ranks.get(frame.pts, number)
            if number in wanted:
                yield number, frame.to_ndarray(format="rgb24")
            number += 1
            if number > last:
                return
    except av.FFmpegError as error:
        raise EpisodeError(
            "video_truncated", f"{path.name} breaks off at frame {number} ({error})"
        ) from error


def _seek(path: Path, container: av.container.InputContainer, first: int) -> dict[int | None, int]:
    """Jump to the key frame before frame `first`; the number of each presentation time.

    Frame numbers are ranks of presentation times, so a wrong frame rate does no harm. Empty
    when reading starts at the first frame: then frames are simply counted.
    """
    stream = container.streams.video[0]
    if first == 0:
        return {}
    stamps, keys = [], []
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None:
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    order = sorted(stamps)
    if first >= len(order):
        raise EpisodeError(
            "video_too_short", f"{path.name} has {len(order)} frames, none at {first}"
        )
    start = max((key for key in keys if key <= order[first]), default=order[0])
    container.seek(start, stream=stream, backward=True)
    return {stamp: rank for rank, stamp in enumerate(order)}
