"""Read DROID as RLDS (TFRecord shards), without TensorFlow.

Images stay encoded until a frame is needed. An RLDS episode has no timestamps: the data set defines
its control rate (`rlds_fps`), 15 Hz for DROID. Source: DROID (arXiv 2403.12945).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.episode import (
    Array,
    Camera,
    Episode,
    EpisodeError,
    check_states,
    name_sides,
    rejecting,
)
from worldmodel.data.files import require_file
from worldmodel.data.mapped_states import MappedStates, read_states
from worldmodel.data.readers.images import JpegFrames, encoded_frames
from worldmodel.data.readers.options import TIMESTAMPS_SAY, UNCHECKED, ReadOptions
from worldmodel.data.readers.rlds_features import decode_record
from worldmodel.data.readers.tfrecord import Place, RecordFile, find_records, read_records, scan

__all__ = ["JpegFrames", "parse_record", "read_record", "read_records", "read_shard"]
OBSERVATION = "steps/observation"
VIEWS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")


def read_shard(path: Path, options: ReadOptions) -> Iterator[tuple[int, Episode | EpisodeError]]:
    """Yield every episode of a shard with its number, or the reason why it is unusable."""
    try:
        require_file(path, path.parent, links=options.links, missing="record_truncated")
        with rejecting(path.name), RecordFile(path) as file:
            notes = () if file.checked else (UNCHECKED,)
            for number, data in enumerate(scan(file)):
                yield number, _outcome(data, path, number, options, notes)
    except EpisodeError as error:
        yield 0, error


def _outcome(
    data: bytes | EpisodeError,
    path: Path,
    number: int,
    options: ReadOptions,
    notes: tuple[str, ...],
) -> Episode | EpisodeError:
    if isinstance(data, EpisodeError):
        return data
    name = f"{path.name}#{number}"
    try:
        with rejecting(name):
            return parse_record(data, name, options, path.parent, notes)
    except EpisodeError as error:
        return error


@lru_cache(maxsize=4096)
def _payloads(path: Path, stamp: tuple[int, int]) -> list[Place]:
    """Return the places of a shard's records; `stamp` is its modification time and size."""
    return find_records(path)


def read_record(path: Path, record: int, options: ReadOptions) -> Episode:
    """Read the episode with the number `record` of a shard; other records are not read.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
    """
    facts = require_file(path, path.parent, links=options.links, missing="record_truncated")
    places = _payloads(path, (facts.st_mtime_ns, facts.st_size))
    if record >= len(places):
        raise EpisodeError("record_truncated", f"{path.name} has {len(places)} records")
    with RecordFile(path) as file:
        data = file.payload(places[record])
        notes = () if file.checked else (UNCHECKED,)
    return parse_record(data, f"{path.name}#{record}", options, path.parent, notes)


def parse_record(
    data: bytes, name: str, options: ReadOptions, folder: Path, notes: tuple[str, ...] = ()
) -> Episode:
    """Parse an episode from a serialised tf.train.Example.

    Args:
        data: The serialised record.
        name: Name of the episode if the record has no path.
        options: How strictly the episode is inspected.
        folder: Folder of the shard, with its features.json.
        notes: Notes on the record.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
    """
    values = decode_record(data, folder, options.links)
    found = _states(values, options)
    states_TS, steps = found.states_TS, len(found.states_TS)
    cameras, camera_notes = _cameras(values, steps, options)
    path = _text(values, "episode_metadata/file_path")
    return Episode(
        id=path or name,
        layout="rlds",
        states_TS=states_TS,
        times_s=np.arange(steps) / options.rlds_fps,
        cameras=cameras,
        moving_T=np.ones(steps, bool),
        joints_TJ=found.joints_TJ,
        targets_TS=found.targets_TS,
        success=None if not path else "failure" not in path,
        task=_text(values, "steps/language_instruction"),
        notes=(*notes, *camera_notes, *_rate_notes(values, steps, options.rlds_fps)),
    )


def _states(values: dict[str, Any], options: ReadOptions) -> MappedStates:
    """Return what the record says about the robot, by the map or by DROID's names."""
    if not options.columns.is_droid:
        steps = count_steps(values)
        return read_states(lambda name: read_steps(values, name, steps), options.columns)
    pose = _rows(values, f"{OBSERVATION}/cartesian_position", 6)
    grip = _rows(values, f"{OBSERVATION}/gripper_position", 1)
    if len(pose) != len(grip):
        raise EpisodeError("lengths_differ", f"{len(pose)} poses and {len(grip)} grippers")
    states_TS = np.concatenate([pose, grip], axis=1)
    check_states(states_TS)
    joints = _joints(values, len(states_TS))
    return MappedStates(states_TS=states_TS, targets_TS=None, joints_TJ=joints)


def full_key(name: str) -> str:
    """Return the key of a column, whose leading `steps/` may be left out."""
    return name if name.startswith(("steps/", "episode_metadata/")) else f"steps/{name}"


def count_steps(values: dict[str, Any]) -> int:
    """Return the number of control steps of a record.

    Raises:
        EpisodeError: Nothing in the record tells.
    """
    for key in ("steps/is_first", "steps/is_last", "steps/reward"):
        if key in values and np.size(values[key]):
            return int(np.size(values[key]))
    for key, value in values.items():
        if key.startswith(f"{OBSERVATION}/") and _bytes_or_none(value):
            return len(value)
    raise EpisodeError("trajectory_key_missing", "the record has neither steps/is_first nor images")


def _bytes_or_none(value: Any) -> bool:
    return np.ndim(value) == 1 and len(value) > 0 and isinstance(value[0], bytes)


def read_steps(values: dict[str, Any], name: str, steps: int) -> Array:
    """Return the values [T, W] of a column of numbers.

    Raises:
        EpisodeError: The column is missing, holds no numbers, or not the same number each step.
    """
    key = full_key(name)
    numbers = _floats(values, key)
    if not numbers.size or numbers.size % steps:
        raise EpisodeError("lengths_differ", f"{key} has {numbers.size} values for {steps} steps")
    return numbers.reshape(steps, -1)


def _floats(values: dict[str, Any], key: str) -> Array:
    if key not in values:
        raise EpisodeError("trajectory_key_missing", f"the record has no {key}")
    try:
        return np.asarray(values[key], dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise EpisodeError("record_damaged", f"{key} holds no numbers ({error})") from error


def _rows(values: dict[str, Any], key: str, width: int) -> Array:
    numbers = _floats(values, key)
    if numbers.size % width:
        raise EpisodeError("lengths_differ", f"{key} has {numbers.size} values, {width} a step")
    return numbers.reshape(-1, width)


def _joints(values: dict[str, Any], steps: int) -> Array | None:
    key = f"{OBSERVATION}/joint_position"
    return read_steps(values, key, steps) if key in values else None


def _bytes(values: dict[str, Any], key: str) -> tuple[bytes, ...]:
    found = values.get(key, ())
    rows = tuple(found) if isinstance(found, list) else tuple(np.asarray(found, object).flat)
    if not all(isinstance(row, bytes) for row in rows):
        raise EpisodeError("record_damaged", f"{key} holds numbers; bytes are needed")
    return rows


def _text(values: dict[str, Any], key: str) -> str:
    found = _bytes(values, key)
    return found[0].decode("utf-8", "replace") if found else ""


UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)
"""Units in which timestamps are recorded [s]."""


def _rate_notes(values: dict[str, Any], steps: int, fps: float) -> tuple[str, ...]:
    """Return a note if timestamps that the record happens to hold contradict the control rate."""
    for key, stamps in values.items():
        if "timestamp" not in key.rpartition("/")[2].lower() or np.size(stamps) != steps:
            continue
        try:
            gap = float(np.median(np.diff(np.asarray(stamps, np.float64).reshape(-1))))
        except (TypeError, ValueError):
            continue
        rates = [1 / (gap * unit) for unit in UNITS_S] if gap > 0 else []
        if rates and not any(abs(rate / fps - 1) < 0.1 for rate in rates):
            likely = min(rates, key=lambda rate: abs(np.log(rate / fps)))
            return (f"{TIMESTAMPS_SAY}{likely:.2g}_fps",)
    return ()


EXTRINSICS = {
    "exterior_image_1_left": "extrinsics_exterior_cam_1",
    "exterior_image_2_left": "extrinsics_exterior_cam_2",
    "wrist_image_left": "extrinsics_wrist_cam",
}
"""View -> the episode's camera pose [6] in `episode_metadata` (data set version 1.0.1)."""


def _cameras(
    values: dict[str, Any], steps: int, options: ReadOptions
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    if not options.columns.is_droid:
        return _own_cameras(values, steps, options), ()
    images = {v: _bytes(values, f"{OBSERVATION}/{v}") for v in VIEWS}
    images = {view: frames for view, frames in images.items() if frames}
    for view, frames in images.items():
        if len(frames) != steps:
            raise EpisodeError("video_too_short", f"{len(frames)} of {steps} images of {view}")
    poses = {view: _pose(values, f"episode_metadata/{EXTRINSICS[view]}") for view in images}
    names, notes = name_sides({v: p for v, p in poses.items() if v != "wrist_image_left"})
    if "wrist_image_left" in images:
        names["wrist"] = "wrist_image_left"
    cameras = {}
    for name, view in names.items():
        if not options.reads(name, view):
            continue  # its images would only take memory
        pose = poses[view]
        cameras[name] = Camera(
            name=name,
            serial=view,
            frames=encoded_frames(images[view], view, options),
            extrinsics_TE=None if pose is None else np.tile(pose, (steps, 1)),
        )
    if not cameras:
        raise EpisodeError("camera_unknown", f"no camera {options.camera}; there are {names}")
    return cameras, notes


def _own_cameras(values: dict[str, Any], steps: int, options: ReadOptions) -> dict[str, Camera]:
    """Return the views that the map names.

    Raises:
        EpisodeError: The record does not have a view, or none is chosen.
    """
    cameras = {}
    for name, column in options.columns.cameras.items():
        if not options.reads(name, column):
            continue
        images = _bytes(values, full_key(column))
        if not images:
            raise EpisodeError("camera_unknown", f"the record has no {full_key(column)} ({name}=)")
        if len(images) != steps:
            raise EpisodeError("video_too_short", f"{len(images)} of {steps} images of {column}")
        frames = encoded_frames(images, column, options)
        cameras[name] = Camera(name=name, serial=column, frames=frames)
    if not cameras:
        raise EpisodeError(
            "camera_unknown", f"no camera {options.camera}; there are {options.columns.cameras}"
        )
    return cameras


def _pose(values: dict[str, Any], key: str) -> Array | None:
    if key not in values:
        return None
    poses = _rows(values, key, 6)
    if len(poses) != 1:
        raise EpisodeError("lengths_differ", f"{key} has {poses.size} values; 6 are needed")
    return np.asarray(poses[0])
