"""Read raw DROID 1.0.1 episodes: metadata_*.json, trajectory.h5, recordings/MP4.

Source of the layout: the DROID data set (arXiv 2403.12945). Timestamps are in milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from worldmodel.atomic_io import is_temporary
from worldmodel.data.episode import (
    Array,
    Camera,
    Episode,
    EpisodeError,
    check_states,
    check_times,
    name_sides,
)
from worldmodel.data.video import VideoFrames, inspect_video

STATE = "observation/robot_state/cartesian_position"
GRIPPER = "observation/robot_state/gripper_position"
JOINTS = "observation/robot_state/joint_positions"
MOVING = "observation/controller_info/movement_enabled"
SENT = "action/delta"
OBJECT = "observation/simulation/object_position"
EVENTS = ("estimated_capture", "frame_received", "read_start", "read_end")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How strictly episodes are inspected."""

    camera: str = "left"
    """Camera that clips are read from: `left`, `right`, `wrist` or a serial number."""
    check_all_cameras: bool = True
    """Whether the videos of all cameras must be complete, or only that of the chosen one."""
    decode: bool = True
    """Whether inspection decodes every frame, or only counts packets."""
    max_missing_frames: int = 1
    """Frames that a video may lack at its end (DROID's are often one short); their steps are
    dropped."""
    inspect: bool = True
    """Whether videos are inspected; False trusts an index that did."""


def find_episodes(root: Path) -> Iterator[Path]:
    """Yield the folders that hold, or should hold, an episode, in a fixed order."""
    found = {p.parent for p in root.rglob("trajectory.h5")}
    found |= {p.parent for p in root.rglob("metadata_*.json")}
    found |= {p.parent for p in root.rglob("recordings") if p.is_dir()}
    yield from sorted(p for p in found if not is_temporary(p.relative_to(root)))


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read the metadata of an episode.

    Raises:
        EpisodeError: There are none, or they are not a JSON object.
    """
    paths = sorted(folder.glob("metadata_*.json"))
    if not paths:
        raise EpisodeError("metadata_missing", f"no metadata_*.json in {folder.name}")
    try:
        metadata = json.loads(paths[0].read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise EpisodeError("metadata_unreadable", f"{paths[0].name}: {error}") from error
    if not isinstance(metadata, dict):
        raise EpisodeError("metadata_unreadable", f"{paths[0].name} is not a JSON object")
    return metadata


def read_droid(folder: Path, options: ReadOptions | None = None) -> Episode:
    """Read one episode and check it for every defect that is known of the format.

    Raises:
        EpisodeError: It cannot be used; the error holds the reason.
    """
    options = options or ReadOptions()
    path = folder / "trajectory.h5"
    if not path.is_file():
        raise EpisodeError("trajectory_missing", f"no trajectory.h5 in {folder.name}")
    metadata = read_metadata(folder)
    try:
        with h5py.File(path, "r") as file:
            return _read(file, folder, metadata, options)
    except (OSError, RuntimeError) as error:
        if isinstance(error, EpisodeError):
            raise
        raise EpisodeError("trajectory_unreadable", f"trajectory.h5: {error}") from error


def _array(file: h5py.File, key: str, *, reason: str = "trajectory_key_missing") -> Array:
    if key not in file:
        raise EpisodeError(reason, f"trajectory.h5 has no {key}")
    values = file[key][()]
    if not np.issubdtype(values.dtype, np.number) and values.dtype != np.bool_:
        raise EpisodeError(reason, f"{key} holds {values.dtype}, not numbers")
    return np.asarray(values, np.float64)


def _states(file: h5py.File) -> Array:
    pose, gripper = _array(file, STATE), _array(file, GRIPPER).reshape(-1)
    if pose.size == 0:
        raise EpisodeError("zero_length", "the trajectory has no control step")
    if pose.ndim != 2 or pose.shape[1] != 6 or len(pose) != len(gripper):
        raise EpisodeError(
            "lengths_differ",
            f"poses {pose.shape}, grippers {gripper.shape}; expected [T,6] and [T]",
        )
    states_TS = np.concatenate([pose, gripper[:, None]], axis=1)
    check_states(states_TS)
    return states_TS


def _stems(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the serial number of each slot (`wrist`, `ext1`, `ext2`) in consistent metadata."""
    stems: dict[str, str] = {}
    for slot in ("wrist", "ext1", "ext2"):
        serial, path = metadata.get(f"{slot}_cam_serial"), metadata.get(f"{slot}_mp4_path")
        if serial or path:
            stems[slot] = str(serial) if serial else _stem(path)
        if serial and path and _stem(path) != str(serial):
            raise EpisodeError(
                "camera_unknown", f"the metadata call {slot} camera {serial} and its video {path}"
            )
    return stems


def _serials(
    file: h5py.File, folder: Path, metadata: dict[str, Any]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the file stem of each camera's recording by the camera's name, and notes."""
    stems = _stems(metadata)
    outside = [stems[slot] for slot in ("ext1", "ext2") if slot in stems]
    names: dict[str, str] = {}
    for side in ("left", "right"):
        if metadata.get(f"{side}_mp4_path"):
            names[side] = _stem(metadata[f"{side}_mp4_path"])
            if outside and names[side] not in stems.values():
                raise EpisodeError(
                    "camera_unknown", f"{side}_mp4_path is {names[side]}; the cameras are {stems}"
                )
    notes: tuple[str, ...] = ()
    if "left" not in names:
        rest = {s: _pose(file, metadata, stems, s) for s in outside if s != names.get("right")}
        found, notes = name_sides(rest)
        names = found | names
    rest_of = [s for s in outside if s not in names.values()]
    if "right" not in names and rest_of:
        names["right"] = rest_of[0]
    if "wrist" in stems:
        names["wrist"] = stems["wrist"]
    if not names:
        raise EpisodeError("camera_unknown", f"the metadata of {folder.name} names no camera")
    return names, notes


def _stem(path: object) -> str:
    """Return the serial number in a recording's path."""
    return Path(str(path)).stem.removesuffix("-stereo")


def _pose(
    file: h5py.File, metadata: dict[str, Any], stems: dict[str, str], serial: str
) -> Array | None:
    """Return the camera's pose in the robot base frame, or None if it was not recorded."""
    slot = next(name for name, stem in stems.items() if stem == serial)
    pose = metadata.get(f"{slot}_cam_extrinsics")
    if pose is None:
        found = _extrinsics(file, serial)
        pose = None if found is None else found[0]
    return None if pose is None else np.asarray(pose, np.float64)


def _extrinsics(file: h5py.File, serial: str) -> Array | None:
    for key in (f"{serial}_left", serial):
        name = f"observation/camera_extrinsics/{key}"
        if name in file:
            return np.asarray(file[name][()], np.float64)
    return None


def _times(file: h5py.File, serial: str, steps: int) -> Array:
    folder = "observation/timestamp/cameras"
    for event in EVENTS:
        key = f"{folder}/{serial}_{event}"
        if key not in file:
            continue
        stamps = _array(file, key).reshape(-1)
        if len(stamps) != steps or (~np.isfinite(stamps)).any() or (stamps[1:] <= 0).any():
            raise EpisodeError(
                "timestamps_missing",
                f"{key} has {int((np.isfinite(stamps) & (stamps > 0)).sum())} of {steps} stamps",
            )
        times_s = (stamps - stamps[0]) / 1000.0
        if steps > 1:
            check_times(times_s)
        return times_s
    raise EpisodeError("timestamps_missing", f"no timestamps of camera {serial} in {folder}")


def _video(
    file: h5py.File, folder: Path, stem: str, steps: int, options: ReadOptions
) -> VideoFrames:
    videos = folder / "recordings" / "MP4"
    types = file.get("observation/camera_type")
    if types is not None and len(types) and stem not in types:
        raise EpisodeError(
            "camera_unknown", f"the metadata names camera {stem}; trajectory.h5 has {sorted(types)}"
        )
    path = videos / f"{stem}.mp4"
    if not path.is_file():
        there = sorted(p.stem for p in videos.glob("*.mp4")) if videos.is_dir() else []
        claimed = set(types) if types is not None else set()
        if set(there) - claimed:
            raise EpisodeError(
                "camera_unknown", f"no recording of camera {stem}; there are {there}"
            )
        raise EpisodeError("video_missing", f"there is no {path.relative_to(folder)}")
    if not options.inspect:
        return VideoFrames(path, steps)
    facts = inspect_video(path, decode=options.decode)
    if facts.frames < steps - options.max_missing_frames:
        raise EpisodeError(
            "video_too_short", f"{path.name} has {facts.frames} frames for {steps} steps"
        )
    if facts.frames > steps + max(1, options.max_missing_frames):
        raise EpisodeError(
            "video_too_long", f"{path.name} has {facts.frames} frames for {steps} steps"
        )
    return VideoFrames(path, min(facts.frames, steps), size=(facts.height, facts.width))


def _cameras(
    file: h5py.File, folder: Path, names: dict[str, str], steps: int, options: ReadOptions
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    """Return the views and notes; a missing view is noted, unless it is the chosen one."""
    cameras: dict[str, Camera] = {}
    notes: tuple[str, ...] = ()
    for name, stem in names.items():
        chosen = options.camera in {name, stem}
        if not options.check_all_cameras and not chosen:
            continue
        try:
            frames = _video(file, folder, stem, steps, options)
        except EpisodeError as error:
            if chosen or error.reason not in {"video_missing", "camera_unknown"}:
                raise
            notes = (*notes, f"no_recording_{name}")
            continue
        cameras[name] = Camera(
            name=name, serial=stem, frames=frames, extrinsics_TE=_extrinsics(file, stem)
        )
    if not cameras:
        raise EpisodeError("camera_unknown", f"no camera {options.camera}; there are {names}")
    return cameras, notes


def _moving(file: h5py.File, steps: int) -> Array:
    if MOVING not in file:
        return np.ones(steps)
    moving = _array(file, MOVING).reshape(-1)
    if len(moving) != steps:
        raise EpisodeError("lengths_differ", f"{MOVING} has {len(moving)} of {steps} steps")
    if not moving.any():
        raise EpisodeError("idle", "movement was never enabled: the arm does not move")
    return moving


def _rows(file: h5py.File, key: str, steps: int) -> Array | None:
    """Return an array [T, width] that only our own recordings have; None where there is none."""
    if key not in file:
        return None
    rows = _array(file, key)
    if rows.ndim != 2 or len(rows) != steps or not rows.shape[1]:
        raise EpisodeError("lengths_differ", f"{key} is {rows.shape}; expected [{steps}, size]")
    return rows


def _read(file: h5py.File, folder: Path, metadata: dict[str, Any], options: ReadOptions) -> Episode:
    states_TS = _states(file)
    steps = len(states_TS)
    names, notes = _serials(file, folder, metadata)
    chosen = options.camera
    if chosen in {"left", "right", "wrist"} and chosen not in names:
        raise EpisodeError("camera_unknown", f"no {chosen} camera; there are {sorted(names)}")
    cameras, lost = _cameras(file, folder, names, steps, options)
    notes += lost
    main = names.get(chosen, chosen)
    times_s = _times(file, main, steps)
    moving_T = _moving(file, steps).astype(bool)
    kept = min(len(camera.frames) for camera in cameras.values())
    if kept < steps:
        notes = (*notes, f"video_short_by_{steps - kept}")
    success = metadata.get("success")
    if success is None:
        success = "failure" not in folder.parts
    joints = _array(file, JOINTS)[:kept] if JOINTS in file else None
    sent, objects = _rows(file, SENT, steps), _rows(file, OBJECT, steps)
    if sent is not None and not np.isfinite(sent).all():
        raise EpisodeError("action_not_finite", f"{SENT} holds NaN or infinity")
    if objects is not None and objects.shape[1] != 3:
        raise EpisodeError("lengths_differ", f"{OBJECT} is {objects.shape}; expected [{steps}, 3]")
    return Episode(
        id=str(metadata.get("uuid") or folder.name),
        layout="droid",
        states_TS=states_TS[:kept],
        times_s=times_s[:kept],
        cameras=cameras,
        moving_T=moving_T[:kept],
        joints_TJ=joints,
        success=bool(success),
        actions_TA=None if sent is None else sent[:kept],
        objects_T3=None if objects is None else objects[:kept],
        task=str(metadata.get("current_task") or ""),
        notes=notes,
    )
