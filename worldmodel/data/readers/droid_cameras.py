"""Read the cameras of a raw DROID episode: names, poses, timestamps and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from worldmodel.data.episode import Array, Camera, EpisodeError, check_times, name_sides
from worldmodel.data.readers.droid_file import EVENTS, read_array
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFrames, inspect_video


def _stems(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the serial number of each slot (`wrist`, `ext1`, `ext2`), checked for consistency."""
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


def camera_serials(
    file: h5py.File, folder: Path, metadata: dict[str, Any]
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
        poses = {s: _pose(file, metadata, stems, s) for s in exterior if s != names.get("right")}
        sides, notes = name_sides(poses)
        names = sides | names
    unnamed = [s for s in exterior if s not in names.values()]
    if "right" not in names and unnamed:
        names["right"] = unnamed[0]
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
    """Return the camera's pose in the robot base frame, or None if not recorded."""
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


def read_times(file: h5py.File, serial: str, steps: int) -> Array:
    """Read the times [T] of a camera's frames, in seconds since the first step.

    Raises:
        EpisodeError: Timestamps are missing, do not increase, or are not in milliseconds.
    """
    folder = "observation/timestamp/cameras"
    for event in EVENTS:
        key = f"{folder}/{serial}_{event}"
        if key not in file:
            continue
        stamps = read_array(file, key).reshape(-1)
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


def read_cameras(
    file: h5py.File, folder: Path, names: dict[str, str], steps: int, options: ReadOptions
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    """Return the views by name, and notes; a missing view is an error only if it was chosen.

    Raises:
        EpisodeError: A camera's video is unusable, or the chosen camera is missing.
    """
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
