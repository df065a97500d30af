"""Read LeRobot data sets v2.1 (one file per episode) and v3.0 (many per file).

Columns have DROID's names, or those that a map gives (`ReadOptions.columns`).

`meta/info.json` holds the version. Rows hold timestamps; frames are indexed by row, in v3.0 with
the offset of the preceding episodes in the same video, or lie in the rows as images.
`exterior_1_left` is the left EYE of the first stereo camera, not the left camera.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from worldmodel.data.episode import (
    Array,
    Camera,
    Episode,
    EpisodeError,
    FrameSource,
    check_states,
    check_times,
    first_pose,
    name_sides,
)
from worldmodel.data.files import Links, require_file
from worldmodel.data.mapped_states import MappedStates, read_states
from worldmodel.data.readers.images import encoded_frames
from worldmodel.data.readers.lerobot_list import (
    data_path,
    episode_row,
    frame_keys,
    is_image,
    read_info,
    video_keys,
    video_path,
    view_keys,
)
from worldmodel.data.readers.lerobot_list import list_episodes as _episodes
from worldmodel.data.readers.lerobot_rows import (
    GRIPPER,
    JOINTS,
    POSE,
    SUCCESS,
    Stamp,
    read_column,
    read_rows,
)
from worldmodel.data.readers.lerobot_spans import Row, Span, whole_number
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFacts, VideoFrames, inspect_video


def episode_numbers(root: Path, links: Links = "inside") -> list[int]:
    """Return the episode numbers listed in the data set; wrong rows have negative ones.

    Raises:
        DataError: The description of the data set cannot be read.
    """
    return sorted(_episodes(root, links).rows)


def episode_files(root: Path, number: int, links: Links = "inside") -> list[Path]:
    """Return the files with the description, the rows and the frames of an episode."""
    files = [root / "meta" / "info.json"]
    try:
        files.append(data_path(root, number, links))
        keys = video_keys(read_info(root, links))
        files += [video_path(root, number, key, links) for key in keys]
    except EpisodeError:
        pass  # the list does not say; the episode is a reject
    return files


def episode_facts(root: Path, number: int, links: Links = "inside") -> str:
    """Return what the list says about an episode, for fingerprints."""
    listing = _episodes(root, links)
    spans = [spans.get(number) for spans in listing.spans.values()]
    return repr((listing.rows.get(number), spans))


@lru_cache(maxsize=64)
def _facts(path: Path, stamp: Stamp, *, decode: bool) -> VideoFacts:
    return inspect_video(path, decode=decode)


def _frames(root: Path, number: int, key: str, options: ReadOptions) -> VideoFrames:
    """Return the frames of an episode in a video.

    Raises:
        EpisodeError: The video is missing or damaged, or does not have the episode's frames.
    """
    path = video_path(root, number, key, options.links)
    steps = whole_number(episode_row(root, number, options.links), "length")
    shared = _episodes(root, options.links).spans.get(key)
    span = shared[number] if shared else Span(0, steps)
    if span.fault is not None:
        raise EpisodeError(span.fault.reason, str(span.fault).partition(": ")[2])
    first, whole = span.first, span.whole
    if not options.inspect:
        return VideoFrames(path, steps, first)
    facts = require_file(path, root, links=options.links, missing="video_missing")
    video = _facts(path, (facts.st_mtime_ns, facts.st_size), decode=options.decode)
    if video.frames == whole + span.unplaced:  # this one's place is known by its times
        whole = video.frames
    if video.frames > whole + 1:
        raise EpisodeError(
            "video_too_long", f"{path.name} has {video.frames} frames for {whole} rows"
        )
    kept = min(steps, video.frames - first)
    if shared and video.frames != whole:
        raise EpisodeError(
            "video_too_short",
            f"{path.name} has {video.frames} frames for {whole} rows, and nothing tells "
            "which episode lacks them",
        )
    if kept < steps - options.max_missing_frames:
        raise EpisodeError("video_too_short", f"{path.name} has {kept} frames for {steps} rows")
    return VideoFrames(path, kept, first, (video.height, video.width))


def _images(root: Path, number: int, key: str, options: ReadOptions) -> tuple[bytes, ...]:
    """Return the encoded images of a view that is stored in the rows.

    Raises:
        EpisodeError: The column is missing, or a row holds no image.
    """
    table = read_rows(root, number, options, (key,))
    if key not in table.column_names:
        raise EpisodeError("video_missing", f"{key} has dtype image, and the rows have no {key}")
    rows = [row.get("bytes") if isinstance(row, dict) else row for row in table[key].to_pylist()]
    images = tuple(row for row in rows if isinstance(row, bytes))
    if len(images) < len(rows):
        raise EpisodeError(
            "image_missing",
            f"{key} has dtype image, and {len(rows) - len(images)} rows hold none; images in files "
            "of their own are not read",
        )
    return images


def _view(root: Path, number: int, key: str, steps: int, options: ReadOptions) -> FrameSource:
    if not is_image(read_info(root, options.links), key):
        return _frames(root, number, key, options)
    images = _images(root, number, key, options)
    if len(images) != steps:
        raise EpisodeError("video_too_short", f"{len(images)} of {steps} images of {key}")
    return encoded_frames(images, key, options)


def _success(table: pa.Table) -> bool | None:
    """Return the mark of the first row; None if there is none."""
    value = table[SUCCESS][0].as_py() if SUCCESS in table.column_names else None
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if value is not None and value not in (True, False):
        raise EpisodeError("row_malformed", f"{SUCCESS} is {str(value)[:100]}; true or false")
    return None if value is None else bool(value)


def _task(row: Row) -> str:
    tasks = row.get("tasks")
    first = tasks[0] if isinstance(tasks, list) and tasks else tasks
    return first if isinstance(first, str) else ""


def read_lerobot(root: Path, number: int, options: ReadOptions | None = None) -> Episode:
    """Read an episode by its number.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
        DataError: The description of the data set cannot be read.
    """
    options = options or ReadOptions()
    row = episode_row(root, number, options.links)
    table = read_rows(root, number, options)
    found = _states(table, options)
    states_TS, targets, joints = found.states_TS, found.targets_TS, found.joints_TJ
    steps = len(table)
    if whole_number(row, "length") != steps:
        raise EpisodeError("lengths_differ", f"{steps} rows; the list says {row['length']}")
    times_s = read_column(table, "timestamp", 1)[:, 0]
    check_times(times_s)
    cameras, notes = _cameras(root, number, table, options)
    kept = min(len(camera.frames) for camera in cameras.values())
    if kept < steps:
        notes = (*notes, f"video_short_by_{steps - kept}")
    return Episode(
        id=f"{root.name}#{number}",
        layout="lerobot",
        states_TS=states_TS[:kept],
        times_s=times_s[:kept] - times_s[0],
        cameras=cameras,
        moving_T=np.ones(kept, bool),
        joints_TJ=None if joints is None else joints[:kept],
        targets_TS=None if targets is None else targets[:kept],
        success=_success(table),
        task=_task(row),
        notes=notes,
    )


def _states(table: pa.Table, options: ReadOptions) -> MappedStates:
    """Return what the rows say about the robot, by the map or by DROID's names."""
    steps = len(table)
    if not options.columns.is_droid:
        return read_states(lambda name: _columns(table, name), options.columns)
    pose_T6, gripper_T1 = read_column(table, POSE, 6), read_column(table, GRIPPER, 1)
    states_TS = np.concatenate([pose_T6, gripper_T1], axis=1)
    check_states(states_TS)
    joints = read_column(table, JOINTS).reshape(steps, -1) if JOINTS in table.column_names else None
    return MappedStates(states_TS=states_TS, targets_TS=None, joints_TJ=joints)


def _columns(table: pa.Table, name: str) -> Array:
    return read_column(table, name).reshape(len(table), -1)


def _cameras(
    root: Path, number: int, table: pa.Table, options: ReadOptions
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    if not options.columns.is_droid:
        return _own_cameras(root, number, len(table), options), ()
    keys = view_keys(read_info(root, options.links))
    poses: dict[str, Array | None] = {}
    for view in keys:
        name = f"camera_extrinsics.{view}"
        poses[view] = read_column(table, name, 6) if name in table.column_names else None
    sides = {view: first_pose(poses[view]) for view in keys if view != "wrist_left"}
    names, notes = name_sides(sides)
    if "wrist_left" in keys:
        names["wrist"] = "wrist_left"
    cameras = {
        name: Camera(
            name=name,
            serial=view,
            frames=_view(root, number, keys[view], len(table), options),
            extrinsics_TE=poses[view],
        )
        for name, view in names.items()
        if options.reads(name, view)
    }
    if not cameras:
        raise EpisodeError("camera_unknown", f"no camera {options.camera}; there are {names}")
    return cameras, notes


def _own_cameras(root: Path, number: int, steps: int, options: ReadOptions) -> dict[str, Camera]:
    """Return the views that the map names.

    Raises:
        EpisodeError: The set does not have a view, or none is chosen.
    """
    known = frame_keys(read_info(root, options.links))
    chosen = {
        name: key for name, key in options.columns.cameras.items() if options.reads(name, key)
    }
    for name, key in chosen.items():
        if key not in known:
            raise EpisodeError("camera_unknown", f"{name}={key}; the columns with frames: {known}")
    if not chosen:
        raise EpisodeError(
            "camera_unknown", f"no camera {options.camera}; there are {options.columns.cameras}"
        )
    return {
        name: Camera(name=name, serial=key, frames=_view(root, number, key, steps, options))
        for name, key in chosen.items()
    }
