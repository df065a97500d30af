"""Episodes on disk in the raw DROID 1.0.1 layout.

`<root>/<lab>/<success|failure>/<date>/<stamp>/` holds `metadata_<uuid>.json`, `trajectory.h5` and
`recordings/MP4/<serial>.mp4`. One frame per control step and camera; timestamps are the real ones.
Beside DROID's keys: `action/delta` [T, 7], the action as sent, and in simulation
`observation/simulation/object_position` [T, 3].
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Recording:
    """One episode in memory: a row per control step."""

    frames: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    """Camera name (`left`, `right`, `wrist`) -> RGB frames [H, W, 3]."""
    states: list[Array] = field(default_factory=list)
    """Flange pose and closedness [7]."""
    joints: list[Array] = field(default_factory=list)
    actions: list[Array] = field(default_factory=list)
    """As sent [7]; the last step's is zero."""
    targets: list[Array] = field(default_factory=list)
    """Commanded pose and closedness [7]."""
    times_s: list[float] = field(default_factory=list)
    objects: list[Array] = field(default_factory=list)

    def add(
        self,
        *,
        frames: dict[str, NDArray[np.uint8]],
        state: Array,
        joints: Array,
        action: Array,
        target: Array,
        time_s: float,
        object_m: Array | None = None,
    ) -> None:
        """Append a control step."""
        for name, frame in frames.items():
            self.frames.setdefault(name, []).append(frame)
        self.states.append(state)
        self.joints.append(joints)
        self.actions.append(action)
        self.targets.append(target)
        self.times_s.append(time_s)
        if object_m is not None:
            self.objects.append(object_m)


def write_video(path: Path, frames: list[NDArray[np.uint8]], rate: float, *, crf: int = 14) -> None:
    """H.264 in MP4, one frame a step (the header's rate is the control rate)."""
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency", "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.options = options
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


SERIALS = {"left": "ext1", "right": "ext2", "wrist": "wrist"}


def write_episode(
    root: Path,
    recording: Recording,
    *,
    success: bool,
    task: str,
    lab: str = "SIM",
    stamp: str,
    rate: float = 4.0,
    date: str = "2026-01-01",
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write one episode whole or not at all; returns its folder.

    Args:
        root: folder of the data set.
        recording: rows of equal length.
        success: decides between the `success` and `failure` folders.
        task: goes into the metadata as `current_task`.
        lab: first folder.
        stamp: names the episode's folder; an episode that stands there already is kept.
        rate: control steps a second.
        date: YYYY-MM-DD, a folder's name; simulated episodes have a fixed one.
        extra: further metadata.
    """
    folder = root / lab / ("success" if success else "failure") / date / stamp
    if folder.is_dir():
        return folder
    part = root / ".part" / stamp
    shutil.rmtree(part, ignore_errors=True)
    (part / "recordings" / "MP4").mkdir(parents=True)
    serials = {name: f"{lab}{i:04d}" for i, name in enumerate(recording.frames)}
    for name, frames in recording.frames.items():
        write_video(part / "recordings" / "MP4" / f"{serials[name]}.mp4", frames, rate)
    with h5py.File(part / "trajectory.h5", "w") as file:
        for key, value in _arrays(recording, serials).items():
            file.create_dataset(key, data=value)
    identity = f"{lab}+{uuid.uuid5(uuid.NAMESPACE_OID, stamp).hex[:8]}+{stamp}"
    metadata: dict[str, Any] = {
        "uuid": identity,
        "lab": lab,
        "user": "simulation",
        "date": date,
        "timestamp": stamp,
        "success": success,
        "current_task": task,
        "trajectory_length": len(recording.states),
        "robot_serial": "fr3-simulated",
        "hdf5_path": f"{folder.relative_to(root)}/trajectory.h5",
        **(extra or {}),
    }
    for name, serial in serials.items():
        metadata[f"{SERIALS[name]}_cam_serial"] = serial
        metadata[f"{SERIALS[name]}_mp4_path"] = (
            f"{folder.relative_to(root)}/recordings/MP4/{serial}.mp4"
        )
    if "left" in serials:
        metadata["left_mp4_path"] = metadata["ext1_mp4_path"]
    (part / f"metadata_{identity}.json").write_text(json.dumps(metadata, indent=1), "utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part.rename(folder)
    return folder


def _arrays(recording: Recording, serials: dict[str, str]) -> dict[str, Any]:
    states, targets = np.stack(recording.states), np.stack(recording.targets)
    stamps = np.round(np.array(recording.times_s) * 1000).astype(np.int64)
    actions = np.stack(recording.actions)
    steps = len(states)
    arrays: dict[str, Any] = {
        "observation/robot_state/cartesian_position": states[:, :6],
        "observation/robot_state/gripper_position": states[:, 6],
        "observation/robot_state/joint_positions": np.stack(recording.joints),
        "observation/controller_info/controller_on": np.ones(steps, bool),
        "observation/controller_info/movement_enabled": np.ones(steps, bool),
        "observation/timestamp/control/step_start": stamps,
        "observation/timestamp/robot_state/read_start": stamps,
        "action/cartesian_position": targets[:, :6],
        "action/gripper_position": targets[:, 6],
        "action/delta": actions,
    }
    for name, serial in serials.items():
        arrays[f"observation/camera_type/{serial}"] = np.full(steps, 0 if name == "wrist" else 1)
        for event in ("read_start", "read_end", "frame_received", "estimated_capture"):
            arrays[f"observation/timestamp/cameras/{serial}_{event}"] = stamps
    if recording.objects:
        arrays["observation/simulation/object_position"] = np.stack(recording.objects)
    return arrays
