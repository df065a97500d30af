"""Encode frames as a video with one frame per control step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SYNTHETIC_CODEC = {"crf": "18", "preset": "veryfast", "mbtree": "0", "threads": "1"}
"""H.264 options of synthetic episodes; B-frames reorder the stored frames, as in DROID's videos.
With `mbtree`, x264 gives other bytes for the same small frames in one of three runs."""
RECORDING_CODEC = {"crf": "14", "preset": "veryfast", "tune": "zerolatency", "threads": "1"}
"""H.264 options of recordings; `zerolatency` keeps frames in order by disabling B-frames."""


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    *,
    header_fps: float = 15.0,
    codec: str = "libx264",
    options: Mapping[str, str] = SYNTHETIC_CODEC,
    container_format: str | None = None,
) -> None:
    """Write frames to a video file, creating missing parent folders.

    Args:
        path: Output file; its suffix selects the container (`.mp4`) unless `container_format` does.
        frames: RGB frames [H, W, 3], uint8, all of one size with an even height and width.
        header_fps: Frame rate in the header [Hz]; readers of this package ignore it.
        codec: Name of an FFmpeg encoder.
        options: Options of the encoder.
        container_format: FFmpeg's name of the container, such as `mp4`; None for that of the
            suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=Fraction(header_fps).limit_denominator(1000))
        stream.options = dict(options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
