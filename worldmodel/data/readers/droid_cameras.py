"""Read the cameras of a raw DROID episode: names, poses, timestamps and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.episode import Array, Camera, EpisodeError, check_times, first_pose, name_sides
from worldmodel.data.files import require_file
from worldmodel.data.readers.droid_file import EVENTS, Trajectory
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFrames, inspect_video


def _stems(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the serial number of each slot (`wrist`, `ext1`, `ext2`), checked for consistency."""
    stems: dict[str, str] = {}
    for slot in ("wrist", "ext1", "ext2"):
        serial, path = metadata.get(f"{slot}_cam_serial"), metadata.get(f"{slot}_mp4_path")
        if serial or path:
            stems[slot] = _plain_name(serial) if serial else _stem(path)
        if serial and path and _stem(path) != str(serial):
            raise EpisodeError(
                "camera_unknown", f"the metadata call {slot} camera {serial} and its video {path}"
            )
    return stems


def camera_serials(
    file: Trajectory, metadata: dict[str, Any], steps: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Map camera names to file stems of their recordings; also return notes.

    Raises:
        EpisodeError: The metadata name no camera or contradict themselves.
    """
    stems = _stems(metadata)
    exterior = [stems[slot] for slot in ("ext1", "ext2") if slot in stems]
    names: dict[str, str] = {}
    for side in ("left", "right"):
        if metadata.get(f"{side}_mp4_path"):
            names[side] = _stem(metadata[f"{side}_mp4_path"])
            if exterior and names[side] not in stems.values():
                raise EpisodeError(
                    "camera_unknown", f"{side}_mp4_path is {names[side]}; the cameras are {stems}"
                )
    notes: tuple[str, ...] = ()
    if "left" not in names:
        unnamed = [s for s in exterior if s != names.get("right")]
        poses = {s: _pose(file, metadata, stems, s, steps) for s in unnamed}
        sides, notes = name_sides(poses)
        names = sides | names
    unnamed = [s for s in exterior if s not in names.values()]
    if "right" not in names and unnamed:
        names["right"] = unnamed[0]
    if "wrist" in stems:
        names["wrist"] = stems["wrist"]
    if not names:
        raise EpisodeError("camera_unknown", f"the metadata of {file.folder.name} names no camera")
    return names, notes


def _stem(path: object) -> str:
    """Return the serial number in a recording's path."""
    return _plain_name(Path(str(path)).stem.removesuffix("-stereo"))


def _plain_name(serial: object) -> str:
    """Return a serial number, which names files and HDF5 keys, so it must not be a path."""
    name = str(serial)
    if not isinstance(serial, (str, int)) or name in {"", ".", ".."} or set(name) & set("/\\\0"):
        raise EpisodeError(
            "path_outside", f"the metadata name a camera {name[:200]!r}; allowed: a serial number"
        )
    return name


def _pose(
    file: Trajectory, metadata: dict[str, Any], stems: dict[str, str], serial: str, steps: int
) -> Array | None:
    """Return the camera's pose in the robot base frame, or None if not recorded."""
    slot = next(name for name, stem in stems.items() if stem == serial)
    key = f"{slot}_cam_extrinsics"
    pose = metadata.get(key)
    if pose is None:
        return first_pose(_extrinsics(file, serial, steps))
    if not isinstance(pose, list) or len(pose) != 6 or not all(map(_is_number, pose)):
        message = f"{key} is {str(pose)[:200]}; six numbers are needed"
        raise EpisodeError("metadata_unreadable", message)
    return np.array(pose, np.float64)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not abs(value) >= 1e9  # NaN counts as unknown


def _extrinsics(file: Trajectory, serial: str, steps: int) -> Array | None:
    """Return the camera poses [T, 6], or None if not recorded."""
    for key in (f"{serial}_left", serial):
        name = f"observation/camera_extrinsics/{key}"
        if name in file:
            return file.rows(name, steps, 6)
    return None


def read_times(file: Trajectory, serial: str, steps: int) -> Array:
    """Read the times [T] of a camera's frames, in seconds since the first step.

    Raises:
        EpisodeError: Timestamps are missing, do not increase, or are not in milliseconds.
    """
    folder = "observation/timestamp/cameras"
    for event in EVENTS:
        key = f"{folder}/{serial}_{event}"
        if key not in file:
            continue
        stamps = file.read(key).reshape(-1)
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


def check_together(file: Trajectory, serials: Sequence[str], steps: int) -> None:
    """Check that the views of each step were captured within half a step of each other.

    Raises:
        EpisodeError: They were not; each view is judged by its first complete event.
    """
    folder, stamps = "observation/timestamp/cameras", []
    for serial in serials:
        keys = (f"{folder}/{serial}_{event}" for event in EVENTS)
        found = next((file.read(key).reshape(-1) for key in keys if key in file), None)
        if found is None or len(found) != steps:
            raise EpisodeError("timestamps_missing", f"no {steps} stamps of camera {serial}")
        stamps.append(found / 1000.0)
    if steps < 2 or len(stamps) < 2:
        return
    apart_s = float(np.ptp(np.stack(stamps), axis=0).max())
    allowed_s = 0.5 * float(np.median(np.diff(stamps[0])))
    if not apart_s <= allowed_s:
        raise EpisodeError(
            "views_apart",
            f"the views of a step are up to {apart_s:.3f} s apart; {allowed_s:.3f} s is allowed",
        )


def _video(file: Trajectory, stem: str, steps: int, options: ReadOptions) -> VideoFrames:
    videos = file.folder / "recordings" / "MP4"
    types = file.names("observation/camera_type")
    if types and stem not in types:
        raise EpisodeError(
            "camera_unknown", f"the metadata names camera {stem}; trajectory.h5 has {types}"
        )
    path = videos / f"{stem}.mp4"
    try:
        require_file(path, file.root, links=file.links, missing="video_missing")
    except EpisodeError as error:
        there = sorted(p.stem for p in videos.glob("*.mp4")) if videos.is_dir() else []
        if error.reason == "video_missing" and set(there) - set(types or ()):
            raise EpisodeError(
                "camera_unknown", f"no recording of camera {stem}; there are {there}"
            ) from error
        raise
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


def read_cameras(
    file: Trajectory, names: dict[str, str], steps: int, options: ReadOptions
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    """Return the views by name, and notes; a missing view is an error only if it was chosen.

    Raises:
        EpisodeError: A camera's video is unusable, or the chosen camera is missing.
    """
    cameras: dict[str, Camera] = {}
    notes: tuple[str, ...] = ()
    for name, stem in names.items():
        chosen = options.chooses(name, stem)
        if not options.reads(name, stem):
            continue
        try:
            frames = _video(file, stem, steps, options)
        except EpisodeError as error:
            if chosen or error.reason not in {"video_missing", "camera_unknown"}:
                raise
            notes = (*notes, f"no_recording_{name}")
            continue
        cameras[name] = Camera(
            name=name, serial=stem, frames=frames, extrinsics_TE=_extrinsics(file, stem, steps)
        )
    if not cameras:
        raise EpisodeError("camera_unknown", f"no camera {options.camera}; there are {names}")
    return cameras, notes
