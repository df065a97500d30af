"""Videos of a LeRobot data set: their files, their encoding, and their description."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.episode import Frames
from worldmodel.data.writers.lerobot_stats import Histogram, histogram
from worldmodel.data.writers.video import write_video
from worldmodel.errors import DataError

VIEWS = {"left": "exterior_1_left", "right": "exterior_2_left", "wrist": "wrist_left"}
"""Camera name -> DROID's name of the view."""
CODEC = {"crf": "14", "preset": "veryfast", "g": "2", "bf": "0", "mbtree": "0", "threads": "1"}
"""H.264 options; a key frame every second frame, as lerobot has, makes single frames cheap."""
FILES_A_CHUNK = 1000
FRAMES_FOR_STATS = 16
"""Number of frames of an episode and camera that the statistics are taken from."""
VIDEOS = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True, kw_only=True)
class Video:
    """What the description of a data set needs of an encoded video."""

    length: int
    """Number of frames."""
    height: int
    """Height of a frame [px]."""
    width: int
    """Width of a frame [px]."""
    counts: Histogram
    """Histogram of the pixels of some frames."""
    sampled: int
    """Number of these frames."""


def video_key(camera: str) -> str:
    """Return lerobot's name of a camera's frames."""
    return f"observation.images.{VIEWS[camera]}"


def video_path(root: Path, camera: str, number: int) -> Path:
    """Return the file of an episode's video."""
    chunk, place = divmod(number, FILES_A_CHUNK)
    return root / VIDEOS.format(video_key=video_key(camera), chunk_index=chunk, file_index=place)


def encode(path: Path, frames: Frames, fps: int) -> Video:
    """Write frames as a video."""
    write_video(path, frames, header_fps=fps, options=CODEC)
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, FRAMES_FOR_STATS).astype(int))]
    length, height, width = frames.shape[:3]
    return Video(
        length=length, height=height, width=width, counts=histogram(chosen), sampled=len(chosen)
    )


def describe(height: int, width: int, fps: int) -> dict[str, Any]:
    """Return lerobot's description of a camera's videos.

    Raises:
        DataError: The size is odd.
    """
    if height % 2 or width % 2:
        raise DataError(f"Frames of {height} x {width} px; H.264 video needs even numbers")
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    names = ["height", "width", "channels"]
    return {"dtype": "video", "shape": [height, width, 3], "names": names, "info": info}
