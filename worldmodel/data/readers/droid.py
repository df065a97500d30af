"""Read raw DROID 1.0.1 episodes: metadata_*.json, trajectory.h5, recordings/MP4.

Source of the layout: the DROID data set (arXiv 2403.12945). Timestamps are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from worldmodel.data.episode import Array, Episode, EpisodeError, check_states, rejecting
from worldmodel.data.files import Links, read_json, require_file, walk
from worldmodel.data.readers.droid_cameras import (
    camera_serials,
    check_together,
    read_cameras,
    read_times,
)
from worldmodel.data.readers.droid_file import (
    GRIPPER,
    JOINTS,
    MOVING,
    OBJECT,
    OBJECT_POSES,
    SENT,
    STATE,
    Trajectory,
)
from worldmodel.data.readers.options import ReadOptions


def find_episodes(root: Path) -> Iterator[Path]:
    """Yield the folders that hold, or should hold, an episode, in a fixed order."""
    yield from sorted(
        folder
        for folder, folders, files in walk(root)
        if "recordings" in folders or "trajectory.h5" in (*files, *folders) or _metadata(files)
    )


def _metadata(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("metadata_") and name.endswith(".json")]


def read_metadata(folder: Path, root: Path, links: Links = "inside") -> dict[str, Any]:
    """Read the metadata of an episode.

    Raises:
        EpisodeError: The metadata are missing or not a JSON object.
    """
    paths = sorted(folder.glob("metadata_*.json"))
    if not paths:
        raise EpisodeError("metadata_missing", f"no metadata_*.json in {folder.name}")
    metadata = read_json(paths[0], root, links=links, reason="metadata_unreadable")
    if not isinstance(metadata, dict):
        raise EpisodeError("metadata_unreadable", f"{paths[0].name} is not a JSON object")
    return metadata


def read_droid(
    folder: Path, options: ReadOptions | None = None, root: Path | None = None
) -> Episode:
    """Read an episode and check it for all known defects of the format.

    Args:
        folder: Folder of the episode.
        options: How strictly it is inspected.
        root: Folder of the data set; None for `folder`.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
    """
    options, root = options or ReadOptions(), root or folder
    path = folder / "trajectory.h5"
    require_file(path, root, links=options.links, missing="trajectory_missing")
    metadata = read_metadata(folder, root, options.links)
    try:
        with rejecting(path.name), h5py.File(path, "r") as file:
            return _read(Trajectory(file, folder, root, options.links), metadata, options)
    except EpisodeError as error:
        cause = error.__cause__
        if error.reason != "reader_failed" or not isinstance(cause, (OSError, RuntimeError)):
            raise
        # HDF5's answers to a damaged file
        raise EpisodeError("trajectory_unreadable", f"trajectory.h5: {cause}") from cause


def _states(file: Trajectory) -> Array:
    pose, gripper = file.read(STATE), file.read(GRIPPER).reshape(-1)
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


def _moving(file: Trajectory, steps: int) -> Array:
    if MOVING not in file:
        return np.ones(steps)
    moving = file.read(MOVING).reshape(-1)
    if len(moving) != steps:
        raise EpisodeError("lengths_differ", f"{MOVING} has {len(moving)} of {steps} steps")
    if not moving.any():
        raise EpisodeError("idle", "movement was never enabled: the arm does not move")
    return moving


def _success(folder: Path, metadata: dict[str, Any]) -> bool:
    success = metadata.get("success")
    if success is None:
        return "failure" not in folder.parts
    if success not in (True, False):
        raise EpisodeError("metadata_unreadable", f"success is {success!r}; allowed: true, false")
    return bool(success)


def _object_poses(file: Trajectory, steps: int) -> Array | None:
    if OBJECT_POSES not in file:
        return None
    poses = file.read(OBJECT_POSES)
    if poses.ndim != 3 or len(poses) != steps or poses.shape[2] != 4:
        raise EpisodeError(
            "lengths_differ", f"{OBJECT_POSES} is {poses.shape}; expected [{steps}, objects, 4]"
        )
    return poses


def _read(file: Trajectory, metadata: dict[str, Any], options: ReadOptions) -> Episode:
    states_TS = _states(file)
    steps = len(states_TS)
    names, notes = camera_serials(file, metadata, steps)
    chosen = options.camera
    if chosen in {"left", "right", "wrist"} and chosen not in names:
        raise EpisodeError("camera_unknown", f"no {chosen} camera; there are {sorted(names)}")
    cameras, lost = read_cameras(file, names, steps, options)
    notes += lost
    main = names.get(chosen, chosen)
    times_s = read_times(file, main, steps)
    check_together(file, [names[view] for view in options.views if view in names], steps)
    moving_T = _moving(file, steps).astype(bool)
    kept = min(len(camera.frames) for camera in cameras.values())
    if kept < steps:
        notes = (*notes, f"video_short_by_{steps - kept}")
    joints, sent, objects = (
        file.rows(key, steps, width) if key in file else None
        for key, width in ((JOINTS, 0), (SENT, 0), (OBJECT, 3))
    )
    poses = _object_poses(file, steps)
    if sent is not None and not np.isfinite(sent).all():
        raise EpisodeError("action_not_finite", f"{SENT} holds NaN or infinity")
    return Episode(
        id=str(metadata.get("uuid") or file.folder.name),
        layout="droid",
        states_TS=states_TS[:kept],
        times_s=times_s[:kept],
        cameras=cameras,
        moving_T=moving_T[:kept],
        joints_TJ=None if joints is None else joints[:kept],
        success=_success(file.folder, metadata),
        actions_TA=None if sent is None else sent[:kept],
        objects_T3=None if objects is None else objects[:kept],
        object_poses_TM4=None if poses is None else poses[:kept],
        task=str(metadata.get("current_task") or ""),
        notes=notes,
    )
