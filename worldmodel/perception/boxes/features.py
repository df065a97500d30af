"""Features of boxes in a frozen encoder's tokens, stored once in an HDF5 file.

Shapes: K boxes, T frames, N tokens, L levels, D width, H W rows and columns.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from worldmodel.data.cache import code_digest
from worldmodel.data.episode import rejecting
from worldmodel.data.files import inside
from worldmodel.data.video import VideoFrames, packet_facts
from worldmodel.errors import DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.boxes.ava import Box, Keyframe
from worldmodel.perception.features.extract import SUFFIXES
from worldmodel.perception.hdf5_file import open_resumable, reserved, source_stamp
from worldmodel.perception.hdf5_rejects import Rejects
from worldmodel.perception.probes.frozen_tokens import four_levels, view_tokens
from worldmodel.perception.probes.recipes import Levels
from worldmodel.perception.views import resize_as_opencv

log = logging.getLogger(__name__)
CHUNK = 64
"""Number of boxes that HDF5 stores together."""
CELLS = 7
"""Number of points along a side of a box at which its features are read."""


@dataclass(frozen=True)
class BoxClips:
    """Which frames around a keyframe are read."""

    num_frames: int
    frame_step: int
    start_s: float
    """Time of the videos' first frame in the annotations [s]."""
    levels: Levels


@dataclass(frozen=True)
class BoxFeatures:
    """Features of the boxes of the keyframes that can be read."""

    features: Tensor
    """Float32 [K, L * D]."""
    owners: Tensor
    """Number of the keyframe of each box, int64 [K]."""
    rejected: dict[str, str]
    """Keyframe -> reason."""


def find_video(root: Path, name: str) -> Path:
    """Return the file of a video.

    Raises:
        DataError: There is none.
    """
    found = [path for s in sorted(SUFFIXES) if (path := inside(root, name + s)).is_file()]
    if not found:
        raise DataError(f"there is no {root / name} with one of {', '.join(sorted(SUFFIXES))}")
    return found[0]


def read_around(path: Path, time_s: float, clips: BoxClips) -> Tensor:
    """Read frames [T, H, W, 3] around a moment; at the ends of the video frames are repeated.

    Raises:
        DataError: The moment is outside the video, or the video is damaged.
    """
    facts = packet_facts(path)
    played, rate = facts.played()
    middle = round((time_s - clips.start_s) * rate)
    if not 0 <= middle < len(played):
        raise DataError(
            f"{path} has {len(played)} frames at {rate:g} Hz from {clips.start_s:g} s; needed: "
            f"{time_s:g} s"
        )
    span = clips.num_frames * clips.frame_step
    wanted = middle - span // 2 + clips.frame_step * np.arange(clips.num_frames)
    numbers, places = np.unique(played[wanted.clip(0, len(played) - 1)], return_inverse=True)
    return torch.from_numpy(VideoFrames(path, facts.frames).read(numbers)[places])


def pool_boxes(tokens_ND: Tensor, grid: tuple[int, int], boxes: Sequence[Box]) -> Tensor:
    """Return features [K, D] of boxes: tokens averaged over time, the largest value in each box.

    Args:
        tokens_ND: Tokens in the order tubelet, row, column.
        grid: Token rows and columns.
        boxes: Boxes as shares of the frame.
    """
    rows, columns = grid
    map_DHW = tokens_ND.unflatten(0, (-1, rows, columns)).mean(0).permute(2, 0, 1)
    edges = torch.tensor(boxes, device=tokens_ND.device, dtype=map_DHW.dtype)
    steps = (torch.arange(CELLS, device=edges.device) + 0.5) / CELLS
    x, y = (edges[:, i, None] + (edges[:, i + 2, None] - edges[:, i, None]) * steps for i in (0, 1))
    points = torch.stack(
        [x[:, None, :].expand(-1, CELLS, -1), y[:, :, None].expand(-1, -1, CELLS)], dim=-1
    )
    sampled = F.grid_sample(
        map_DHW.expand(len(boxes), -1, -1, -1),
        2 * points - 1,
        padding_mode="border",
        align_corners=False,
    )
    return sampled.flatten(2).amax(-1)


def keyframe_features(
    encoder: FrameEncoder, path: Path, keyframe: Keyframe, clips: BoxClips
) -> Tensor:
    """Return the features [K, L * D] of a keyframe's boxes; the frame is squeezed to a square.

    Raises:
        DataError: The video is missing, damaged, or ends before the keyframe.
    """
    height, width = encoder.image_size
    with rejecting(keyframe.name):
        frames = resize_as_opencv(read_around(path, keyframe.time_s, clips), height, width)
    levels = four_levels(encoder) if clips.levels == "four" else ()
    tokens_ND = view_tokens(encoder, frames[None, None, None], levels)[0, 0]
    parts = tokens_ND.chunk(max(1, len(levels)))
    pooled = [pool_boxes(part, encoder.token_grid, keyframe.boxes) for part in parts]
    return torch.cat(pooled, dim=1)


def encode_boxes(
    out: Path,
    encoder: FrameEncoder,
    keyframes: Sequence[Keyframe],
    root: Path,
    clips: BoxClips,
    name: str,
) -> BoxFeatures:
    """Compute the features of all boxes that the file lacks.

    Args:
        out: HDF5 file.
        encoder: Frozen encoder.
        keyframes: Moments and boxes.
        root: Folder of the videos.
        clips: Which frames are read.
        name: Name of the encoder, recorded in the file.

    Raises:
        DataError: No keyframe can be read, or the file is torn.
        ConfigError: The file is of another run.
    """
    with open_resumable(out, _made_by(encoder, keyframes, root, clips)) as file:
        with reserved(file):
            file.attrs["encoder"] = name
        done, rows, rejects = _progress(file, out)
        bar = tqdm(keyframes[done:], desc=out.stem, unit="keyframe")
        for number, keyframe in enumerate(bar, start=done):
            try:
                path = find_video(root, keyframe.video)
                found = keyframe_features(encoder, path, keyframe, clips)
                with reserved(file, found.nbytes + CHUNK * 4 * found.shape[1]):
                    _write(file, rows, found, number)
                rows += len(found)
            except DataError as error:
                log.warning("%s: %s", keyframe.name, error)
                rejects.add(number, keyframe.name, str(error))
            with reserved(file):
                file.attrs["progress"] = (number + 1, rows)
        if not rows:
            raise DataError(
                f"none of {len(keyframes)} keyframes could be read; the first: "
                f"{next(iter(rejects.reasons.values()), 'there is none')}"
            )
        features = torch.from_numpy(file["features"][:rows])
        owners = torch.from_numpy(file["owners"][:rows])
    return BoxFeatures(features, owners, rejects.reasons)


def _made_by(
    encoder: FrameEncoder, keyframes: Sequence[Keyframe], root: Path, clips: BoxClips
) -> dict[str, str]:
    stamps = {}
    for video in {keyframe.video for keyframe in keyframes}:
        try:
            stamps[video] = source_stamp(find_video(root, video))
        except DataError:
            stamps[video] = ""
    asked = [[k.video, k.time_s, k.boxes] for k in keyframes] + [sorted(stamps.items())]
    return {
        "encoder_hash": model_hash(encoder),
        "code": code_digest(),
        "clips": json.dumps(asdict(clips)),
        "keyframes": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
    }


def _progress(file: h5py.File, path: Path) -> tuple[int, int, Rejects]:
    """Return the number of keyframes that are done, that of stored boxes, and the rejects.

    Raises:
        DataError: The file does not hold what `encode_boxes` writes.
    """
    try:
        done, rows = (int(count) for count in file.attrs.get("progress", (0, 0)))
        rejects = Rejects(file, done)
        fits = not rows or (
            file["features"].ndim == 2
            and file["features"].dtype == np.float32
            and rows <= len(file["features"])
            and rows <= len(file["owners"])
        )
    except Exception as error:  # attributes and arrays of any kind, in a file of any origin
        raise DataError(f"{path} holds no features of boxes ({error}): delete it") from error
    if not fits or done < 0:
        raise DataError(f"{path} holds other features than it says: delete it, or use another out=")
    return done, rows, rejects


def _write(file: h5py.File, row: int, features_KD: Tensor, number: int) -> None:
    """Append the boxes of a keyframe; rows that an interrupted run did not count are replaced."""
    count, width = features_KD.shape
    if "features" not in file:
        file.create_dataset(
            "features", (0, width), np.float32, maxshape=(None, width), chunks=(CHUNK, width)
        )
        file.create_dataset("owners", (0,), np.int64, maxshape=(None,))
    file["features"].resize(row + count, axis=0)
    file["owners"].resize((row + count,))
    file["features"][row:] = features_KD.float().cpu().numpy()
    file["owners"][row:] = number
