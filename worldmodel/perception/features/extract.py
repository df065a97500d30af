"""Extract encoder features of video and image files, clip by clip, into one resumable HDF5 file.

Each video has a group with `features` [clips, N, D] and `times_s` [clips, T], the times of its
frames; file attributes record the model and the sampling.

Shapes: T frames of a clip, H W pixels, C 3 channels RGB, N tokens, D width.
"""

from __future__ import annotations

import contextlib
import logging
import math
import mimetypes
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldmodel.checked import Checked, between
from worldmodel.data.cache import code_digest, digest_of
from worldmodel.data.episode import EpisodeError, rejecting
from worldmodel.data.files import Links, links_outside, list_files
from worldmodel.data.pictures import read_picture
from worldmodel.data.transforms import Preprocess
from worldmodel.data.video_file import shown_frames
from worldmodel.errors import DataError, WorldModelError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.model_hash import model_hash
from worldmodel.models.world_model import WorldModel
from worldmodel.perception.features.file import append, group_of, is_complete
from worldmodel.perception.hdf5_file import open_resumable, reserved
from worldmodel.perception.images import IMAGES, is_image
from worldmodel.shards import Shard, begin_shard, finish_shard
from worldmodel.shutdown import follows_a_signal
from worldmodel.specs import Transform

log = logging.getLogger(__name__)
Dtype = Literal["float16", "float32"]
COMMAND, SHARD_FILE = "features", "features.h5"
SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(Checked):
    """Clip sampling and feature storage."""

    num_frames: int = field(default=16, metadata=between(1, 4096))
    """Number of frames of a clip."""
    fps: float = field(default=4.0, metadata=between(1e-3, 1000))
    """Sampling rate [Hz]."""
    transform: Transform | None = None
    """Image transform to the model's size; None uses the model's own."""
    dtype: Dtype = "float16"
    """Data type of the stored features."""


@dataclass(frozen=True)
class Result:
    """Counts of a run."""

    videos: int
    """Number of videos in the file."""
    clips: int
    """Number of clips written by this run."""
    skipped: int
    """Number of videos finished by an earlier run."""
    rejected: dict[str, str]
    """Video -> reason why it could not be read."""

    def with_rejects(self, more: Mapping[str, str]) -> Result:
        """Return these counts with files that were not looked at."""
        return replace(self, rejected={**self.rejected, **more})


def find_videos(path: Path) -> list[Path]:
    """Return all videos and images below a folder in sorted order, or the given file itself.

    Linked folders are searched, too. Videos and images of other kinds, such as .gif and .tiff, are
    left out with a warning that counts them.

    Raises:
        DataError: The folder holds neither.
    """
    if path.is_file():
        return [path]
    known = SUFFIXES | IMAGES
    files = list_files(path)
    found = [p for p in files if p.suffix.lower() in known]
    if not found:
        raise DataError(
            f"{path} holds no video or image ({', '.join(sorted(known))}): give videos=PATH"
        )
    others = Counter(
        s for s in (p.suffix.lower() for p in files) if s not in known and _is_media(s)
    )
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        log.warning("%s: %s left out; read are %s", path, counts, ", ".join(sorted(known)))
    return found


def _is_media(suffix: str) -> bool:
    """Return whether files of this suffix are videos or images of any kind."""
    kind, _ = mimetypes.guess_type(f"file{suffix}")
    return (kind or "").startswith(("image/", "video/"))


def sampled_frames(path: Path, fps: float) -> Iterator[tuple[float, np.ndarray[Any, Any]]]:
    """Yield the time [s] and RGB frame [H, W, 3] of the first frame at or after each tick.

    Ticks that pass while the file shows no new frame are skipped.

    Raises:
        DataError: The file has no video stream, or cannot be decoded.
    """
    next_s = 0.0
    for shown in shown_frames(path):
        if shown.time_s >= next_s - 1e-6:
            yield shown.time_s, shown.pixels()
            next_s = (math.floor((shown.time_s + 1e-6) * fps) + 1) / fps


def clips(path: Path, config: FeatureConfig) -> Iterator[tuple[np.ndarray[Any, Any], list[float]]]:
    """Yield non-overlapping clips [T, H, W, 3] and the times of their frames.

    An incomplete last clip is dropped; a video shorter than one clip is padded with its last frame.
    An image is a clip of one frame at time 0.
    """
    if is_image(path):
        yield read_picture(path)[None], [0.0]
        return
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
    """Encode a clip -> features [N, D]; a world model encodes each frame separately.

    A single frame is repeated as often as the model's tubelets need.
    """
    if isinstance(model, WorldModel):
        return model.encode(clip_THWC).flatten(0, 1)
    if len(clip_THWC) == 1:
        clip_THWC = clip_THWC.repeat(model.observation_spec.frames_per_token, 1, 1, 1)
    return model.encode_clip(clip_THWC[None])[0]


@contextlib.contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """Turn a fault of the encoder, which may be of a user's class, into a reject of its video.

    Raises:
        EpisodeError: `encoder_failed`. Errors that would end every other video too are raised as
            they are: those of this package, about the model or the options, of memory and device.
    """
    try:
        yield
    except (WorldModelError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:  # a user's class can raise anything
        if follows_a_signal(error):
            raise
        text = f"{path}: {type(error).__name__}: {str(error)[:500]}"
        log.warning("%s", path, exc_info=error)
        raise EpisodeError("encoder_failed", text) from error


def _one_video(
    file: h5py.File, name: str, path: Path, model: WorldModel | FrameEncoder, config: FeatureConfig
) -> int:
    group, done = group_of(file, name, path)
    transform = Preprocess(config.transform or "published", model.image_size)
    count = 0
    read = clips(path, config)
    while True:
        with rejecting(str(path)):
            found = next(read, None)
        if found is None:
            break
        clip, times = found
        count += 1
        if count > done:
            with _encoding(path):
                found_ND = encode(model, transform(torch.from_numpy(clip)))
            with reserved(file, found_ND.nbytes):
                append(group, found_ND, times, config.dtype, path)
    if not count:
        raise DataError(f"{path} has no frames")
    with reserved(file):
        group.attrs["complete"] = True
    return count


def write_features(
    videos: Path,
    out: Path,
    model: WorldModel | FrameEncoder,
    name: str,
    config: FeatureConfig,
    *,
    shard: Shard | None = None,
    links: Links = "inside",
) -> Result:
    """Encode one video or all videos of a folder, resuming an earlier run.

    Args:
        videos: Video or image file, or folder of them.
        out: Output HDF5 file.
        model: Encoder, or a world model, which encodes each frame separately.
        name: Name of the model, recorded in the file; on resuming its hash is compared.
        config: Clip sampling and feature storage.
        shard: Part of the videos to encode, into a file of its own; `merge_features` joins them.
        links: Whether linked files of a folder must stay inside it, or may lead anywhere.

    Raises:
        DataError: No video could be read, or `out` is damaged.
        ConfigError: `out` was written with a different model, sampling or version of this package.
    """
    config = replace(config, transform=config.transform or model.observation_spec.transform)
    paths = find_videos(videos)
    root = videos if videos.is_dir() else videos.parent
    outside = links_outside(paths, videos, links)
    named = [(_key(path, root), path) for path in paths if path not in outside]
    refused = {_key(path, root): why for path, why in outside.items()}
    made_by = {"model_hash": model_hash(model), "code": code_digest(), **asdict(config)}
    if shard is None:
        result = _encode_all(named, out, model, name, config, made_by).with_rejects(refused)
        check_some(result)
        return result
    folder = shard.folder(out)
    facts = {**made_by, "model": name, "num_videos": len(named)}
    facts["videos"] = digest_of([key for key, _ in named])
    record = begin_shard(folder, COMMAND, shard, facts)
    result = _encode_all(shard.of(named), folder / SHARD_FILE, model, name, config, made_by)
    result = result.with_rejects(refused)
    finish_shard(folder, record, asdict(result))
    return result


def _key(path: Path, root: Path) -> str:
    """Return the name of a video's group."""
    return os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")


def _encode_all(
    named: Sequence[tuple[str, Path]],
    out: Path,
    model: WorldModel | FrameEncoder,
    name: str,
    config: FeatureConfig,
    made_by: Mapping[str, object],
) -> Result:
    rejected: dict[str, str] = {}
    clips_done = skipped = 0
    with open_resumable(out, made_by) as file:
        with reserved(file):
            file.attrs["model"] = name
        for key, path in tqdm(named, desc="features", unit="video"):
            if is_complete(file, key, path):
                skipped += 1
                continue
            try:
                clips_done += _one_video(file, key, path, model, config)
            except DataError as error:
                log.warning("%s", error)
                rejected[key] = str(error)
                if key in file and not len(file[key]):
                    with reserved(file):
                        del file[key]
    return Result(len(named) - len(rejected), clips_done, skipped, rejected)


def check_some(result: Result) -> None:
    """Check that a video could be read.

    Raises:
        DataError: All were rejected.
    """
    if not result.videos:
        raise DataError(
            f"none of {len(result.rejected)} videos could be read; the first: "
            f"{next(iter(result.rejected.values()))}"
        )
