"""Read raw DROID 1.0.1 episodes: metadata_*.json, trajectory.h5, recordings/MP4.

Source of the layout: the DROID data set (arXiv 2403.12945). Timestamps are in milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from worldmodel.atomic_io import is_temporary
from worldmodel.data.episode import Array, Episode, EpisodeError, check_states
from worldmodel.data.readers.droid_cameras import camera_serials, read_cameras, read_times
from worldmodel.data.readers.droid_file import (
    GRIPPER,
    JOINTS,
    MOVING,
    OBJECT,
    SENT,
    STATE,
    read_array,
)
from worldmodel.data.readers.options import ReadOptions


def find_episodes(root: Path) -> Iterator[Path]:
    """Yield the folders that hold, or should hold, an episode, in a fixed order."""
    found = {p.parent for p in root.rglob("trajectory.h5")}
    found |= {p.parent for p in root.rglob("metadata_*.json")}
    found |= {p.parent for p in root.rglob("recordings") if p.is_dir()}
    yield from sorted(p for p in found if not is_temporary(p.relative_to(root)))


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read the metadata of an episode.

    Raises:
        EpisodeError: The metadata are missing or not a JSON object.
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
    """Read an episode and check it for all known defects of the format.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
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


def _states(file: h5py.File) -> Array:
    pose, gripper = read_array(file, STATE), read_array(file, GRIPPER).reshape(-1)
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


def _moving(file: h5py.File, steps: int) -> Array:
    if MOVING not in file:
        return np.ones(steps)
    moving = read_array(file, MOVING).reshape(-1)
    if len(moving) != steps:
        raise EpisodeError("lengths_differ", f"{MOVING} has {len(moving)} of {steps} steps")
    if not moving.any():
        raise EpisodeError("idle", "movement was never enabled: the arm does not move")
    return moving


def _rows(file: h5py.File, key: str, steps: int) -> Array | None:
    """Return an array [T, width] that only our own recordings have, or None."""
    if key not in file:
        return None
    rows = read_array(file, key)
    if rows.ndim != 2 or len(rows) != steps or not rows.shape[1]:
        raise EpisodeError("lengths_differ", f"{key} is {rows.shape}; expected [{steps}, size]")
    return rows


def _read(file: h5py.File, folder: Path, metadata: dict[str, Any], options: ReadOptions) -> Episode:
    states_TS = _states(file)
    steps = len(states_TS)
    names, notes = camera_serials(file, folder, metadata)
    chosen = options.camera
    if chosen in {"left", "right", "wrist"} and chosen not in names:
        raise EpisodeError("camera_unknown", f"no {chosen} camera; there are {sorted(names)}")
    cameras, lost = read_cameras(file, folder, names, steps, options)
    notes += lost
    main = names.get(chosen, chosen)
    times_s = read_times(file, main, steps)
    moving_T = _moving(file, steps).astype(bool)
    kept = min(len(camera.frames) for camera in cameras.values())
    if kept < steps:
        notes = (*notes, f"video_short_by_{steps - kept}")
    success = metadata.get("success")
    if success is None:
        success = "failure" not in folder.parts
    joints = read_array(file, JOINTS)[:kept] if JOINTS in file else None
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
