"""Small raw DROID episodes made from arithmetic: a square that follows the arm.

For the `smoke` recipe, benchmarks and tests. The files have the real layout and its harmless
oddities: 60 fps in the video's header, 15 steps a second by the timestamps.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RATE_HZ = 15.0
SERIALS = {"wrist": "14000001", "ext1": "24000002", "ext2": "24000003"}


def random_states(steps: int, seed: int) -> Array:
    """A smooth walk of the flange [T, 7] within reach; roll wraps at +-pi as a real arm's does."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 2 * np.pi, 7), rng.uniform(0.6, 1.6, 7)
    wave_T7 = np.sin(phase + np.arange(steps)[:, None] / RATE_HZ * speed)
    middle = np.array([0.5, 0.0, 0.3, np.pi, 0.0, 0.0, 0.5])
    states_T7 = middle + wave_T7 * np.array([0.1, 0.2, 0.1, 0.1, 0.1, 0.3, 0.5])
    states_T7[:, 3:6] = (states_T7[:, 3:6] + np.pi) % (2 * np.pi) - np.pi
    return states_T7


def draw_frames(states_T7: Array, size: tuple[int, int], *, side: float = 1.0) -> NDArray[np.uint8]:
    """Frames [T, H, W, 3]: a grey slope and a square at the arm's x and y, coloured by its z."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    slope = (60 + 80 * columns / width + 40 * rows / height).astype(np.uint8)
    frames = np.repeat(np.repeat(slope[None, :, :, None], 3, 3), len(states_T7), 0)
    half = max(2, height // 10)
    for frame, state in zip(frames, states_T7, strict=True):
        x = int((0.5 + side * state[1]) * width)
        y = int((1.2 - state[0]) * height * 0.75)
        red = int(np.clip(255 * state[2] / 0.6, 0, 255))
        top, left = max(0, y - half), max(0, x - half)
        frame[top : y + half, left : x + half] = (red, 40, int(np.clip(255 * state[6], 0, 255)))
    return frames


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    *,
    header_fps: int = 60,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:
    """One frame a control step, at the frame rate that the header claims."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(header_fps))
        stream.options = options or {"crf": "18", "preset": "veryfast", "threads": "1"}
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def trajectory(states_T7: Array, serials: dict[str, str]) -> dict[str, Any]:
    """The arrays of trajectory.h5."""
    steps = len(states_T7)
    stamps = 1.7e12 + np.round(np.arange(steps) * 1000 / RATE_HZ)
    following = np.concatenate([states_T7[1:], states_T7[-1:]])
    arrays: dict[str, Any] = {
        "observation/robot_state/cartesian_position": states_T7[:, :6],
        "observation/robot_state/gripper_position": states_T7[:, 6],
        "observation/robot_state/joint_positions": np.tile(np.linspace(0, 1, 7), (steps, 1)),
        "observation/controller_info/controller_on": np.ones(steps, bool),
        "observation/controller_info/movement_enabled": np.ones(steps, bool),
        "observation/timestamp/control/step_start": stamps,
        "observation/timestamp/robot_state/read_start": stamps,
        "action/cartesian_position": following[:, :6],
        "action/gripper_position": following[:, 6],
    }
    for slot, serial in serials.items():
        arrays[f"observation/camera_type/{serial}"] = np.full(steps, 0 if slot == "wrist" else 1)
        pose = [0.3, {"ext1": 0.6, "ext2": -0.6}.get(slot, 0.0), 0.5, -2.0, 0.0, -2.0]
        arrays[f"observation/camera_extrinsics/{serial}_left"] = np.tile(pose, (steps, 1))
        for event in ("read_start", "read_end", "frame_received", "estimated_capture"):
            arrays[f"observation/timestamp/cameras/{serial}_{event}"] = stamps
    return arrays


def write_episode(
    root: Path,
    name: str,
    states_T7: Array,
    *,
    size: tuple[int, int] = (90, 160),
    slots: tuple[str, ...] = ("ext1", "ext2", "wrist"),
    success: bool = True,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """Write an episode of raw DROID; returns its folder."""
    folder = root / "LAB" / ("success" if success else "failure") / "2023-07-07" / name
    folder.mkdir(parents=True)
    serials = {slot: SERIALS[slot] for slot in slots}
    for slot, serial in serials.items():
        side = {"ext1": 1.0, "ext2": -1.0}.get(slot, 0.3)
        frames = draw_frames(states_T7, size, side=side)
        path = folder / "recordings" / "MP4" / f"{serial}.mp4"
        write_video(path, frames, options=codec_options)
    with h5py.File(folder / "trajectory.h5", "w") as file:
        for key, value in trajectory(states_T7, serials).items():
            file.create_dataset(key, data=value)
    identity = f"LAB+abcdef+{name}"
    metadata: dict[str, Any] = {
        "uuid": identity,
        "lab": "LAB",
        "user": "nobody",
        "date": "2023-07-07",
        "timestamp": name,
        "success": success,
        "current_task": "follow the square",
        "robot_serial": "panda-1",
        "trajectory_length": len(states_T7),
        "hdf5_path": f"{folder.relative_to(root)}/trajectory.h5",
    }
    for slot, serial in serials.items():
        path = folder.relative_to(root) / "recordings" / "MP4" / f"{serial}.mp4"
        metadata[f"{slot}_cam_serial"] = serial
        metadata[f"{slot}_mp4_path"] = str(path)
    if "ext1" in serials:
        metadata["left_mp4_path"] = metadata["ext1_mp4_path"]
    if "ext2" in serials:
        metadata["right_mp4_path"] = metadata["ext2_mp4_path"]
    (folder / f"metadata_{identity}.json").write_text(json.dumps(metadata), encoding="utf-8")
    return folder


def write_dataset(
    root: Path,
    *,
    episodes: int,
    steps: int = 90,
    size: tuple[int, int] = (90, 160),
    seed: int = 0,
    slots: tuple[str, ...] = ("ext1",),
) -> Path:
    """Write `episodes` episodes under `root` unless they stand there already."""
    for number in range(episodes):
        name = f"episode-{number:04d}"
        if not (root / "LAB" / "success" / "2023-07-07" / name).is_dir():
            states_T7 = random_states(steps, seed * 100_003 + number)
            write_episode(root, name, states_T7, size=size, slots=slots)
    return root
