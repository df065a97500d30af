"""Read DROID as LeRobot data sets v2.1 (one file per episode) and v3.0 (many per file).

`meta/info.json` holds the version. Rows hold timestamps; frames are indexed by row, in v3.0 with
the offset of the preceding episodes in the same video. `exterior_1_left` is the left EYE of the
first stereo camera, not the left camera.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worldmodel.data.episode import (
    Array,
    Camera,
    Episode,
    EpisodeError,
    check_states,
    check_times,
    name_sides,
)
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFacts, VideoFrames, inspect_video
from worldmodel.errors import DataError

VIEWS = ("exterior_1_left", "exterior_2_left", "wrist_left")


@lru_cache(maxsize=8)
def read_info(root: Path) -> dict[str, Any]:
    """Read the `info.json` of a data set.

    Raises:
        DataError: The file cannot be read, or its version is neither 2.x nor 3.x.
    """
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version = str(info["codebase_version"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error!r}") from error
    if version.removeprefix("v")[:2] not in {"2.", "3."}:
        raise DataError(f"{path} has version {version}; v2.x and v3.x can be read")
    return dict(info)


def _is_v3(root: Path) -> bool:
    return str(read_info(root)["codebase_version"]).removeprefix("v").startswith("3")


@lru_cache(maxsize=8)
def _episodes(root: Path) -> dict[int, dict[str, Any]]:
    if _is_v3(root):
        rows: list[dict[str, Any]] = []
        for path in sorted((root / "meta" / "episodes").rglob("*.parquet")):
            table = pq.read_table(path)
            names = [n for n in table.column_names if not n.startswith("stats/")]
            rows += table.select(names).to_pylist()
    else:
        lines = (root / "meta" / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    return {int(row["episode_index"]): row for row in rows}


def episode_numbers(root: Path) -> list[int]:
    """Return the episode numbers listed in the data set.

    Raises:
        DataError: The lists of episodes cannot be read.
    """
    try:
        return sorted(_episodes(root))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"The list of episodes in {root / 'meta'} is broken: {error!r}") from error


def _data_path(root: Path, number: int) -> Path:
    info, row = read_info(root), _episodes(root)[number]
    if _is_v3(root):
        places = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
    else:
        places = {"episode_chunk": number // info["chunks_size"], "episode_index": number}
    return root / str(info["data_path"]).format(**places)


def _video_path(root: Path, number: int, key: str) -> Path:
    info, row = read_info(root), _episodes(root)[number]
    places: dict[str, Any] = {"video_key": key}
    if _is_v3(root):
        places["chunk_index"] = row[f"videos/{key}/chunk_index"]
        places["file_index"] = row[f"videos/{key}/file_index"]
    else:
        places |= {"episode_chunk": number // info["chunks_size"], "episode_index": number}
    return root / str(info["video_path"]).format(**places)


def _keys(root: Path) -> dict[str, str]:
    features = read_info(root).get("features", {})
    keys = {view: f"observation.images.{view}" for view in VIEWS}
    return {view: key for view, key in keys.items() if key in features}


def episode_files(root: Path, number: int) -> list[Path]:
    """Return the files with an episode's rows and frames."""
    keys = _keys(root).values()
    return [_data_path(root, number), *(_video_path(root, number, key) for key in keys)]


@lru_cache(maxsize=64)
def _facts(path: Path, stamp: int, *, decode: bool) -> VideoFacts:
    return inspect_video(path, decode=decode)


def _frames(root: Path, number: int, key: str, options: ReadOptions) -> VideoFrames:
    path, row = _video_path(root, number, key), _episodes(root)[number]
    steps, first, whole = int(row["length"]), 0, int(row["length"])
    if _is_v3(root):
        beside = [
            other
            for other in _episodes(root).values()
            if other[f"videos/{key}/file_index"] == row[f"videos/{key}/file_index"]
            and other[f"videos/{key}/chunk_index"] == row[f"videos/{key}/chunk_index"]
        ]
        start = row[f"videos/{key}/from_timestamp"]
        earlier = [o for o in beside if o[f"videos/{key}/from_timestamp"] < start]
        first = sum(int(other["length"]) for other in earlier)
        whole = sum(int(other["length"]) for other in beside)
    if not options.inspect:
        return VideoFrames(path, steps, first)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    facts = _facts(path, stamp, decode=options.decode)
    size = (facts.height, facts.width)
    if facts.frames > whole + 1:
        raise EpisodeError(
            "video_too_long", f"{path.name} has {facts.frames} frames for {whole} rows"
        )
    kept = min(steps, facts.frames - first)
    if _is_v3(root) and facts.frames != whole:
        raise EpisodeError(
            "video_too_short",
            f"{path.name} has {facts.frames} frames for {whole} rows, and nothing tells "
            "which episode lacks them",
        )
    if kept < steps - options.max_missing_frames:
        raise EpisodeError("video_too_short", f"{path.name} has {kept} frames for {steps} rows")
    return VideoFrames(path, kept, first, size)


def _column(table: pa.Table, name: str) -> Array:
    if name not in table.column_names:
        raise EpisodeError("trajectory_key_missing", f"the rows have no {name}")
    return np.array(table[name].to_pylist(), dtype=np.float64)


def _rows(root: Path, number: int) -> pa.Table:
    path = _data_path(root, number)
    if not path.is_file():
        raise EpisodeError("trajectory_missing", f"there is no {path.relative_to(root)}")
    try:
        filters = [("episode_index", "=", number)]
        table = pq.read_table(path, filters=filters, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise EpisodeError("trajectory_unreadable", f"{path.name}: {error}") from error
    if len(table) == 0:
        raise EpisodeError("zero_length", f"{path.name} has no row of episode {number}")
    return table


def _states(table: pa.Table) -> Array:
    pose = _column(table, "observation.state.cartesian_position").reshape(len(table), -1)
    grip = _column(table, "observation.state.gripper_position").reshape(len(table), -1)
    if pose.shape[1] != 6 or grip.shape[1] != 1:
        raise EpisodeError("lengths_differ", f"poses are {pose.shape}, grippers {grip.shape}")
    states_TS = np.concatenate([pose, grip], axis=1)
    check_states(states_TS)
    return states_TS


def read_lerobot(root: Path, number: int, options: ReadOptions | None = None) -> Episode:
    """Read an episode by its number.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
    """
    options = options or ReadOptions()
    table = _rows(root, number)
    states_TS = _states(table)
    row = _episodes(root)[number]
    if int(row["length"]) != len(table):
        raise EpisodeError("lengths_differ", f"{len(table)} rows; the list says {row['length']}")
    times_s = _column(table, "timestamp").reshape(-1)
    check_times(times_s)
    keys = _keys(root)
    poses: dict[str, Array | None] = {}
    for view in ("exterior_1_left", "exterior_2_left"):
        name = f"camera_extrinsics.{view}"
        if view in keys:
            poses[view] = _column(table, name)[0] if name in table.column_names else None
    names, notes = name_sides(poses)
    if "wrist_left" in keys:
        names["wrist"] = "wrist_left"
    cameras = {}
    for name, view in names.items():
        if options.check_all_cameras or options.camera in {name, view}:
            frames = _frames(root, number, keys[view], options)
            key = f"camera_extrinsics.{view}"
            pose_TE = _column(table, key) if key in table.column_names else None
            cameras[name] = Camera(name=name, serial=view, frames=frames, extrinsics_TE=pose_TE)
    if not cameras:
        raise EpisodeError("camera_unknown", f"no camera {options.camera}; there are {names}")
    kept = min(len(camera.frames) for camera in cameras.values())
    if kept < len(table):
        notes = (*notes, f"video_short_by_{len(table) - kept}")
    tasks = row.get("tasks") or [""]
    joints = "observation.state.joint_position"
    good = "is_episode_successful"
    return Episode(
        id=f"{root.name}#{number}",
        layout="lerobot",
        states_TS=states_TS[:kept],
        times_s=times_s[:kept] - times_s[0],
        cameras=cameras,
        moving_T=np.ones(kept, bool),
        joints_TJ=_column(table, joints)[:kept] if joints in table.column_names else None,
        success=bool(table[good][0].as_py()) if good in table.column_names else None,
        task=str(tasks[0]),
        notes=notes,
    )
