"""Reader of DROID as RLDS (TFRecord shards), without TensorFlow.

The TFRecord framing is stripped here and the record handed to tensorflow-datasets' protocol
message. An RLDS episode holds no timestamps: its steps are 1/15 s apart by the data set's
definition. Source: DROID (arXiv 2403.12945).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from worldmodel.data.droid import ReadOptions
from worldmodel.data.episode import (
    Array,
    Camera,
    Episode,
    EpisodeError,
    Frames,
    check_states,
    name_sides,
)

CONTROL_HZ = 15.0
OBSERVATION = "steps/observation"
VIEWS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")


@dataclass(frozen=True)
class JpegFrames:
    """Encoded images of one camera, one a step."""

    images: tuple[bytes, ...]
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Frames of the episode."""
        return len(self.images)

    def read(self, steps: NDArray[np.int64]) -> Frames:
        """Decode the asked steps.

        Raises:
            EpisodeError: an image is damaged or not there.
        """
        if len(steps) and int(steps.max()) >= len(self.images):
            raise EpisodeError("video_too_short", f"no frame {int(steps.max())}")
        return np.stack([_decode(self.images[int(step)]) for step in steps])


def _decode(data: bytes) -> Frames:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise EpisodeError("image_damaged", f"an image cannot be decoded: {error}") from error


def read_records(path: Path) -> Iterator[bytes]:
    """Payloads of a TFRecord file: length (8 bytes), its checksum (4), data, checksum (4).

    Raises:
        EpisodeError: the file ends inside a record.
    """
    with path.open("rb") as file:
        while header := file.read(12):
            if len(header) < 12:
                raise EpisodeError("record_truncated", f"{path.name} ends inside a header")
            (length,) = struct.unpack("<Q", header[:8])
            if length > path.stat().st_size:
                raise EpisodeError("record_damaged", f"{path.name} claims {length} bytes")
            data = file.read(length + 4)
            if len(data) < length + 4:
                raise EpisodeError(
                    "record_truncated", f"{path.name}: {len(data)} of {length + 4} bytes"
                )
            yield data[:length]


def read_shard(path: Path, options: ReadOptions) -> Iterator[tuple[int, Episode | EpisodeError]]:
    """Every episode of a shard, or why it cannot be used."""
    records, number = read_records(path), 0
    while True:
        try:
            data = next(records, None)
        except EpisodeError as error:
            yield number, error
            return
        if data is None:
            return
        try:
            yield number, parse_record(data, f"{path.name}#{number}", options)
        except EpisodeError as error:
            yield number, error
        number += 1


@lru_cache(maxsize=8)
def _payloads(path: Path) -> list[tuple[int, int]]:
    places, at = [], 0
    for data in read_records(path):
        places.append((at + 12, len(data)))
        at += len(data) + 16
    return places


def read_record(path: Path, record: int, options: ReadOptions) -> Episode:
    """Episode number `record` of a shard.

    Raises:
        EpisodeError: with the reason.
    """
    start, length = _payloads(path)[record]
    with path.open("rb") as file:
        file.seek(start)
        return parse_record(file.read(length), f"{path.name}#{record}", options)


def parse_record(data: bytes, name: str, options: ReadOptions) -> Episode:
    """An episode from a serialised tf.train.Example.

    Raises:
        EpisodeError: with the reason.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        features = tf_example_pb2.Example.FromString(data).features.feature
    except DecodeError as error:
        raise EpisodeError("record_damaged", f"{name}: {error}") from error
    pose = _floats(features, f"{OBSERVATION}/cartesian_position").reshape(-1, 6)
    grip = _floats(features, f"{OBSERVATION}/gripper_position").reshape(-1, 1)
    if len(pose) != len(grip):
        raise EpisodeError("lengths_differ", f"{len(pose)} poses and {len(grip)} grippers")
    states_TS = np.concatenate([pose, grip], axis=1)
    check_states(states_TS)
    steps = len(states_TS)
    cameras, notes = _cameras(features, steps, options)
    joints = features.get(f"{OBSERVATION}/joint_position")
    path = _text(features, "episode_metadata/file_path")
    return Episode(
        id=path or name, layout="rlds", states_TS=states_TS,
        times_s=np.arange(steps) / CONTROL_HZ, cameras=cameras,
        moving_T=np.ones(steps, bool),
        joints_TJ=None if joints is None else np.array(joints.float_list.value).reshape(steps, -1),
        success=None if not path else "failure" not in path,
        task=_text(features, "steps/language_instruction"), notes=notes,
    )  # fmt: skip


def _floats(features: Any, key: str) -> Array:
    if key not in features:
        raise EpisodeError("trajectory_key_missing", f"the record has no {key}")
    return np.array(features[key].float_list.value, dtype=np.float64)


def _text(features: Any, key: str) -> str:
    values = features[key].bytes_list.value if key in features else ()
    return bytes(values[0]).decode("utf-8", "replace") if values else ""


def _cameras(
    features: Any, steps: int, options: ReadOptions
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    images = {
        view: tuple(features[f"{OBSERVATION}/{view}"].bytes_list.value)
        for view in VIEWS
        if f"{OBSERVATION}/{view}" in features
    }
    for view, frames in images.items():
        if len(frames) != steps:
            raise EpisodeError("video_too_short", f"{len(frames)} of {steps} images of {view}")
    poses = {}
    for number in (1, 2):
        key = f"episode_metadata/extrinsics_exterior_cam_{number}"
        pose = np.array(features[key].float_list.value) if key in features else None
        if f"exterior_image_{number}_left" in images:
            poses[f"exterior_image_{number}_left"] = pose
    names, notes = name_sides(poses)
    if "wrist_image_left" in images:
        names["wrist"] = "wrist_image_left"
    cameras = {}
    for name, view in names.items():
        if options.inspect and options.decode:
            sizes = {_decode(image).shape[:2] for image in images[view]}
            if len(sizes) > 1:
                raise EpisodeError("frame_size", f"{view} has frames of sizes {sorted(sizes)}")
        size = _decode(images[view][0]).shape[:2]
        cameras[name] = Camera(name=name, serial=view, frames=JpegFrames(images[view], size))
    return cameras, notes
