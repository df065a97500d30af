"""Read DROID as RLDS (TFRecord shards), without TensorFlow.

This module strips the TFRecord framing; the NumPy parser of tensorflow-datasets decodes the records
as described by the folder's `features.json`. Without a `features.json` the records' own keys are
used. Images stay encoded until a frame is needed. An RLDS episode has no timestamps: the data set
defines its steps to be 1/15 s apart. Source: DROID (arXiv 2403.12945).
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
from PIL import Image

from worldmodel.data.episode import (
    Array,
    Camera,
    Episode,
    EpisodeError,
    Frames,
    check_states,
    name_sides,
)
from worldmodel.data.pictures import rgb_frame
from worldmodel.data.readers.options import ReadOptions
from worldmodel.errors import DataError

CONTROL_HZ = 15.0
OBSERVATION = "steps/observation"
VIEWS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")


@dataclass(frozen=True)
class JpegFrames:
    """Encoded images of one camera, one per control step."""

    images: tuple[bytes, ...]
    """Encoded JPEG or PNG images."""
    size: tuple[int, int] | None = None
    """Height and width [px]."""

    def __len__(self) -> int:
        """Return the number of frames of the episode."""
        return len(self.images)

    def read(self, steps: NDArray[np.int64]) -> Frames:
        """Decode the frames [K, H, W, 3] of some steps.

        Raises:
            EpisodeError: An image is damaged or missing.
        """
        if len(steps) and int(steps.max()) >= len(self.images):
            raise EpisodeError("video_too_short", f"no frame {int(steps.max())}")
        return np.stack([_decode(self.images[int(step)]) for step in steps])


def _decode(data: bytes) -> Frames:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return rgb_frame(image)
    except Exception as error:  # Pillow's readers raise errors of any kind
        raise EpisodeError("image_damaged", f"an image cannot be decoded: {error}") from error


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a TFRecord file.

    A record is a length (8 bytes), its checksum (4), the data, and their checksum (4).

    Raises:
        EpisodeError: The file ends inside a record.
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
    """Yield every episode of a shard with its number, or the reason why it is unusable."""
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
            yield number, parse_record(data, f"{path.name}#{number}", options, path.parent)
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
    """Read the episode with the number `record` of a shard.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
    """
    start, length = _payloads(path)[record]
    with path.open("rb") as file:
        file.seek(start)
        return parse_record(file.read(length), f"{path.name}#{record}", options, path.parent)


@lru_cache(maxsize=8)
def _parser(folder: Path) -> Any | None:
    """Return tensorflow-datasets' parser for the folder's features.json, or None without it.

    Raises:
        DataError: features.json cannot be read.
    """
    path = folder / "features.json"
    if not path.is_file():
        return None
    from tensorflow_datasets.core import example_parser, features

    try:
        described = features.FeaturesDict.from_config(str(folder))
        return example_parser.ExampleParserNp(described.get_serialized_info())
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise DataError(
            f"{path} does not describe the records ({error!r}): download it again, or remove it "
            "to read the records by their own keys"
        ) from error


def _flat(nested: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def decode_record(data: bytes, folder: Path) -> dict[str, Any]:
    """Return a record's values by `path/of/the/feature`: arrays, or bytes for texts and images.

    Raises:
        EpisodeError: The record is damaged or does not match features.json.
        DataError: features.json cannot be read.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow_datasets.proto import tf_example_pb2

    parser = _parser(folder)
    try:
        if parser is not None:
            return dict(_flat(parser.parse_example(data)))
        found = tf_example_pb2.Example.FromString(data).features.feature
    except DecodeError as error:
        raise EpisodeError("record_damaged", f"it cannot be parsed: {error}") from error
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise EpisodeError(
            "record_damaged", f"it is not as features.json describes it: {error!r}"
        ) from error
    kinds = ("bytes_list", "float_list", "int64_list")
    lists = {
        key: next((getattr(v, k).value for k in kinds if v.HasField(k)), ())
        for key, v in found.items()
    }
    return {key: list(values) for key, values in lists.items()}


def parse_record(data: bytes, name: str, options: ReadOptions, folder: Path) -> Episode:
    """Parse an episode from a serialised tf.train.Example.

    Args:
        data: The serialised record.
        name: Name of the episode if the record has no path.
        options: How strictly the episode is inspected.
        folder: Folder of the shard, with its features.json.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
    """
    values = decode_record(data, folder)
    pose = _floats(values, f"{OBSERVATION}/cartesian_position").reshape(-1, 6)
    grip = _floats(values, f"{OBSERVATION}/gripper_position").reshape(-1, 1)
    if len(pose) != len(grip):
        raise EpisodeError("lengths_differ", f"{len(pose)} poses and {len(grip)} grippers")
    states_TS = np.concatenate([pose, grip], axis=1)
    check_states(states_TS)
    steps = len(states_TS)
    cameras, notes = _cameras(values, steps, options)
    joints = f"{OBSERVATION}/joint_position"
    path = _text(values, "episode_metadata/file_path")
    return Episode(
        id=path or name,
        layout="rlds",
        states_TS=states_TS,
        times_s=np.arange(steps) / CONTROL_HZ,
        cameras=cameras,
        moving_T=np.ones(steps, bool),
        joints_TJ=_floats(values, joints).reshape(steps, -1) if joints in values else None,
        success=None if not path else "failure" not in path,
        task=_text(values, "steps/language_instruction"),
        notes=notes,
    )


def _floats(values: dict[str, Any], key: str) -> Array:
    if key not in values:
        raise EpisodeError("trajectory_key_missing", f"the record has no {key}")
    return np.asarray(values[key], dtype=np.float64).reshape(-1)


def _bytes(values: dict[str, Any], key: str) -> tuple[bytes, ...]:
    found = values.get(key, ())
    return (found,) if isinstance(found, bytes) else tuple(bytes(value) for value in found)


def _text(values: dict[str, Any], key: str) -> str:
    found = _bytes(values, key)
    return found[0].decode("utf-8", "replace") if found else ""


EXTRINSICS = {
    "exterior_image_1_left": "extrinsics_exterior_cam_1",
    "exterior_image_2_left": "extrinsics_exterior_cam_2",
    "wrist_image_left": "extrinsics_wrist_cam",
}
"""View -> the episode's camera pose [6] in `episode_metadata` (data set version 1.0.1)."""


def _cameras(
    values: dict[str, Any], steps: int, options: ReadOptions
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    images = {v: _bytes(values, f"{OBSERVATION}/{v}") for v in VIEWS}
    images = {view: frames for view, frames in images.items() if frames}
    for view, frames in images.items():
        if len(frames) != steps:
            raise EpisodeError("video_too_short", f"{len(frames)} of {steps} images of {view}")
    keys = {view: f"episode_metadata/{EXTRINSICS[view]}" for view in images}
    poses = {view: _floats(values, key) if key in values else None for view, key in keys.items()}
    names, notes = name_sides({v: p for v, p in poses.items() if v != "wrist_image_left"})
    if "wrist_image_left" in images:
        names["wrist"] = "wrist_image_left"
    cameras = {}
    for name, view in names.items():
        if options.inspect and options.decode:
            sizes = {_decode(image).shape[:2] for image in images[view]}
            if len(sizes) > 1:
                raise EpisodeError("frame_size", f"{view} has frames of sizes {sorted(sizes)}")
        size, pose = _decode(images[view][0]).shape[:2], poses[view]
        cameras[name] = Camera(
            name=name,
            serial=view,
            frames=JpegFrames(images[view], size),
            extrinsics_TE=None if pose is None else np.tile(pose, (steps, 1)),
        )
    return cameras, notes
