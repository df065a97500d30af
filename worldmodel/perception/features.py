"""Encoder features of video files, clip by clip, into one HDF5 file that can be gone on with.

Layout: a group per video with `features` [clips, N, D] and `times_s` [clips, T] of its frames;
attributes of the file say which model and sampling made it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.transforms import Preprocess
from worldmodel.errors import ConfigError, DataError, ShapeError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.world_model import WorldModel

log = logging.getLogger(__name__)
SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """How clips are cut out of a video."""

    num_frames: int = 16
    """Frames of a clip."""
    fps: float = 4.0
    """Frames a second that are looked at."""
    transform: str = "published"
    dtype: str = "float16"
    """float16 or float32, as stored."""

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.fps <= 0:
            raise ConfigError(f"num_frames={self.num_frames}, fps={self.fps}: wanted more than 0")
        if self.dtype not in {"float16", "float32"}:
            raise ConfigError(f"dtype={self.dtype!r}: wanted float16 or float32")


@dataclass(frozen=True)
class Result:
    """What a run did."""

    videos: int
    clips: int
    skipped: int
    """Videos that an earlier run had finished."""
    rejected: dict[str, str]
    """Video -> why it could not be read."""


def find_videos(path: Path) -> list[Path]:
    """A video file, or all below a folder, in order.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{path} holds no video ({', '.join(sorted(SUFFIXES))}): give videos=PATH")
    return found


def sampled_frames(path: Path, fps: float) -> Iterator[tuple[float, np.ndarray[Any, Any]]]:
    """Time [s] and RGB frame [H, W, 3] at `fps`, the first frame at or after each tick.

    Raises:
        DataError: no video, or it cannot be decoded.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video stream")
            next_s, start_s = 0.0, None
            for frame in container.decode(video=0):
                start_s = frame.time if start_s is None else start_s
                time_s = (frame.time or 0.0) - (start_s or 0.0)
                if time_s >= next_s - 1e-6:
                    next_s += 1.0 / fps
                    yield time_s, frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise DataError(f"{path} cannot be decoded ({error})") from error


def clips(path: Path, config: FeatureConfig) -> Iterator[tuple[np.ndarray[Any, Any], list[float]]]:
    """Clips [T, H, W, 3] with their frames' times, one after the other.

    What is left at the end is dropped, but a video shorter than a clip is filled up with its last
    frame.
    """
    frames: list[np.ndarray[Any, Any]] = []
    times: list[float] = []
    count = 0
    for time_s, frame in sampled_frames(path, config.fps):
        frames.append(frame)
        times.append(time_s)
        if len(frames) == config.num_frames:
            yield np.stack(frames), times
            frames, times, count = [], [], count + 1
    if frames and not count:
        missing = config.num_frames - len(frames)
        yield np.stack(frames + [frames[-1]] * missing), times + [times[-1]] * missing


def encode(model: WorldModel | FrameEncoder, clip_THWC: Tensor) -> Tensor:
    """Features [N, D] of a clip; a world model encodes its frames one by one."""
    if isinstance(model, WorldModel):
        return model.encode(clip_THWC).flatten(0, 1)
    return model.encode_clip(clip_THWC[None])[0]


def _append(group: h5py.Group, features_ND: Tensor, times: list[float], dtype: str) -> None:
    value = features_ND.cpu().numpy().astype(dtype)
    rows = {"features": value, "times_s": np.asarray(times, np.float64)}
    if "features" not in group:
        for name, row in rows.items():
            group.create_dataset(
                name,
                (0, *row.shape),
                row.dtype,
                maxshape=(None, *row.shape),
                chunks=(1, *row.shape),
            )
    if group["features"].shape[1:] != value.shape:
        raise ShapeError(
            f"a clip has features {value.shape}, the file {group['features'].shape[1:]}: "
            "frames changed their size; write to another file"
        )
    for name, row in rows.items():
        group[name].resize(len(group[name]) + 1, axis=0)
        group[name][-1] = row


def _one_video(
    file: h5py.File, name: str, path: Path, model: WorldModel | FrameEncoder, config: FeatureConfig
) -> int:
    group = file.require_group(name)
    done = min((len(group[k]) for k in ("features", "times_s") if k in group), default=0)
    for key in group:
        group[key].resize(done, axis=0)  # a run may have stopped between the two
    transform = Preprocess(config.transform, model.image_size)  # type: ignore[arg-type]
    count = 0
    for clip, times in clips(path, config):
        count += 1
        if count > done:
            frames = transform(torch.from_numpy(clip))
            _append(group, encode(model, frames), times, config.dtype)
            file.flush()
    if not count:
        raise DataError(f"{path} has no frames")
    group.attrs["complete"] = True
    return count


def _open(out: Path, made_by: dict[str, Any]) -> h5py.File:
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = h5py.File(out, "a")
    except OSError as error:
        raise DataError(
            f"{out} cannot be opened ({error}): it is no HDF5 file, or was torn: delete it"
        ) from error
    for key, value in made_by.items():
        if file.attrs.get(key, value) != value:
            old = file.attrs[key]
            file.close()
            raise ConfigError(
                f"{out} was written with {key}={old!r}, now {value!r}: features of two kinds do "
                "not belong in one file; choose another out="
            )
        file.attrs[key] = value
    return file


def write_features(
    videos: Path, out: Path, model: WorldModel | FrameEncoder, name: str, config: FeatureConfig
) -> Result:
    """Encode all videos of a folder (or one file); goes on where an earlier run stopped.

    Args:
        videos: file or folder.
        out: the HDF5 file.
        model: encoder.
        name: what the model is called; kept in the file and compared when going on.
        config: how clips are cut.

    Raises:
        DataError: nothing could be read, or `out` is torn.
        ConfigError: `out` was written by another model or sampling.
    """
    paths = find_videos(videos)
    root = videos if videos.is_dir() else videos.parent
    rejected: dict[str, str] = {}
    clips_done = skipped = 0
    with _open(out, {"model": name, **asdict(config)}) as file:
        for path in tqdm(paths, desc="features", unit="video"):
            key = path.relative_to(root).as_posix()
            if key in file and file[key].attrs.get("complete"):
                skipped += 1
                continue
            try:
                clips_done += _one_video(file, key, path, model, config)
            except DataError as error:
                log.warning("%s", error)
                rejected[key] = str(error)
                if key in file and not len(file[key]):
                    del file[key]
    if len(rejected) == len(paths):
        raise DataError(
            f"none of {len(paths)} videos could be read: {next(iter(rejected.values()))}"
        )
    return Result(len(paths) - len(rejected), clips_done, skipped, rejected)
