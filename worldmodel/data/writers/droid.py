"""Write episodes in the raw DROID 1.0.1 layout.

`<root>/<lab>/<success|failure>/<date>/<stamp>/` holds `metadata_<uuid>.json`, `trajectory.h5` and
`recordings/MP4/<serial>.mp4`, with one frame per control step and camera. Besides DROID's own keys,
`trajectory.h5` may hold `action/delta` [T, A], the actions as sent, and from simulators
`observation/simulation/object_position` [T, 3] of the first object, a label, and
`observation/simulation/object_poses` [T, M, 4] (x, y, z, yaw) of all objects, for evaluation.

Shapes: T control steps, S state (pose 6, closedness 1), J joints, A action, H W pixels.
Source of the layout: the DROID data set (arXiv 2403.12945).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from worldmodel.atomic_io import atomic_folder, write_json
from worldmodel.data.readers.droid_file import (
    EVENTS,
    GRIPPER,
    JOINTS,
    MOVING,
    OBJECT,
    OBJECT_POSES,
    SENT,
    STATE,
)
from worldmodel.data.writers.video import RECORDING_CODEC, write_video
from worldmodel.errors import DataError

Array = NDArray[np.float64]
SLOTS = {"left": "ext1", "right": "ext2", "wrist": "wrist"}
"""Camera name -> slot in DROID's metadata."""


class RecordedSteps(Protocol):
    """Rows of a recorded episode, one per control step; `robot.record.Recording` implements it."""

    @property
    def frames(self) -> Mapping[str, Sequence[NDArray[np.uint8]]]:
        """RGB frames [H, W, 3] by camera name (`left`, `right`, `wrist`)."""

    @property
    def states(self) -> Sequence[Array]:
        """Flange pose [m, rad] and gripper closedness [S]."""

    @property
    def joints(self) -> Sequence[Array]:
        """Joint angles [J, rad]; empty if the arm does not report them."""

    @property
    def actions(self) -> Sequence[Array]:
        """Actions [A] as sent; empty if unknown, in which case readers use differences."""

    @property
    def targets(self) -> Sequence[Array]:
        """Commanded flange pose and gripper closedness [S]."""

    @property
    def times_s(self) -> Sequence[float]:
        """Time of each step [s]."""

    @property
    def objects(self) -> Sequence[Array]:
        """Position of the first object [3, m]; empty unless simulated."""

    @property
    def object_poses(self) -> Sequence[Array]:
        """Position [m] and yaw [rad] of each object [M, 4]; empty unless simulated."""


def write_episode(
    root: Path,
    recording: RecordedSteps,
    *,
    success: bool,
    task: str,
    stamp: str,
    lab: str = "SIM",
    date: str = "2026-01-01",
    header_fps: float = 4.0,
    serials: Mapping[str, str] | None = None,
    extrinsics: Mapping[str, Array] | None = None,
    codec_options: Mapping[str, str] = RECORDING_CODEC,
    metadata: Mapping[str, object] | None = None,
) -> Path:
    """Write an episode atomically.

    Args:
        root: Folder of the data set.
        recording: Rows of equal length; empty columns are left out of the file.
        success: Selects the `success` or `failure` folder.
        task: Task description, stored in the metadata as `current_task`.
        stamp: Name of the episode's folder; an existing episode is kept.
        lab: Name of the first folder.
        date: Name of the date folder, YYYY-MM-DD; simulated episodes use the default.
        header_fps: Frame rate [Hz] in the videos' headers.
        serials: Camera name -> serial number; None numbers the cameras.
        extrinsics: Camera name -> pose of the camera in the robot base frame [6] in m and rad.
        codec_options: Options of the H.264 encoder.
        metadata: Additional metadata entries, which override the default ones.

    Returns:
        The episode's folder.

    Raises:
        DataError: The columns of the recording differ in length, or it has no camera.
    """
    folder = root / lab / ("success" if success else "failure") / date / stamp
    if folder.is_dir():
        return folder
    _check_lengths(recording)
    if serials is None:
        serials = {name: f"{lab}{i:04d}" for i, name in enumerate(recording.frames)}
    identity = f"{lab}+{uuid.uuid5(uuid.NAMESPACE_OID, stamp).hex[:8]}+{stamp}"
    where = folder.relative_to(root)
    facts: dict[str, object] = {
        "uuid": identity,
        "lab": lab,
        "user": "simulation",
        "date": date,
        "timestamp": stamp,
        "success": success,
        "current_task": task,
        "trajectory_length": len(recording.states),
        "robot_serial": "fr3-simulated",
        "hdf5_path": f"{where}/trajectory.h5",
        **(metadata or {}),
        **_camera_metadata(where, recording, serials),
    }
    try:
        with atomic_folder(folder) as part:
            for name, frames in recording.frames.items():
                video = part / "recordings" / "MP4" / f"{serials[name]}.mp4"
                write_video(video, frames, header_fps=header_fps, options=codec_options)
            with h5py.File(part / "trajectory.h5", "w") as file:
                for key, value in _arrays(recording, serials, extrinsics or {}).items():
                    file.create_dataset(key, data=value)
            write_json(part / f"metadata_{identity}.json", facts, indent=1)
    except FileExistsError:
        pass  # another process wrote the same episode meanwhile
    return folder


def _check_lengths(recording: RecordedSteps) -> None:
    steps = len(recording.states)
    columns: dict[str, Sequence[object]] = {
        "targets": recording.targets,
        "times_s": recording.times_s,
        **{f"frames of {name}": frames for name, frames in recording.frames.items()},
    }
    optional = (
        ("joints", recording.joints),
        ("actions", recording.actions),
        ("objects", recording.objects),
        ("object_poses", recording.object_poses),
    )
    columns |= {name: rows for name, rows in optional if rows}
    wrong = {name: len(rows) for name, rows in columns.items() if len(rows) != steps}
    if wrong or not recording.frames or not steps:
        raise DataError(
            f"Cannot write an episode of {steps} states from {sorted(recording.frames)}: "
            f"{wrong or 'it is empty'}. Every column must have one row for each control step, "
            "and at least one camera must have recorded"
        )


def _camera_metadata(
    where: Path, recording: RecordedSteps, serials: Mapping[str, str]
) -> dict[str, str]:
    facts: dict[str, str] = {}
    for name in recording.frames:
        path = f"{where}/recordings/MP4/{serials[name]}.mp4"
        facts[f"{SLOTS[name]}_cam_serial"] = serials[name]
        facts[f"{SLOTS[name]}_mp4_path"] = path
        if name != "wrist":
            facts[f"{name}_mp4_path"] = path
    return facts


def _arrays(
    recording: RecordedSteps, serials: Mapping[str, str], extrinsics: Mapping[str, Array]
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of trajectory.h5 by key; times are in milliseconds."""
    states, targets = np.stack(recording.states), np.stack(recording.targets)
    stamps = np.round(np.array(recording.times_s) * 1000).astype(np.int64)
    steps = len(states)
    arrays: dict[str, NDArray[np.generic]] = {
        STATE: states[:, :6],
        GRIPPER: states[:, 6],
        MOVING: np.ones(steps, bool),
        "observation/controller_info/controller_on": np.ones(steps, bool),
        "observation/timestamp/control/step_start": stamps,
        "observation/timestamp/robot_state/read_start": stamps,
        "action/cartesian_position": targets[:, :6],
        "action/gripper_position": targets[:, 6],
    }
    columns = (
        (JOINTS, recording.joints),
        (SENT, recording.actions),
        (OBJECT, recording.objects),
        (OBJECT_POSES, recording.object_poses),
    )
    arrays |= {key: np.stack(rows) for key, rows in columns if rows}
    for name in recording.frames:
        serial = serials[name]
        arrays[f"observation/camera_type/{serial}"] = np.full(steps, 0 if name == "wrist" else 1)
        if name in extrinsics:
            key = f"observation/camera_extrinsics/{serial}_left"
            arrays[key] = np.tile(extrinsics[name], (steps, 1))
        for event in EVENTS:
            arrays[f"observation/timestamp/cameras/{serial}_{event}"] = stamps
    return arrays
