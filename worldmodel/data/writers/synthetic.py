"""Write small synthetic DROID episodes that show a square following the arm.

The `smoke` recipe, benchmarks and tests use them. The files reproduce the real layout and its
harmless quirks: the video headers claim 60 fps while the timestamps are 1/15 s apart.

Shapes: T control steps, S state (7), H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.writers.droid import write_episode
from worldmodel.data.writers.video import SYNTHETIC_CODEC

Array = NDArray[np.float64]
RATE_HZ = 15.0
HEADER_FPS = 60.0
FIRST_STAMP_S = 1.7e9
LAB, DATE = "LAB", "2023-07-07"
SERIALS = {"left": "24000002", "right": "24000003", "wrist": "14000001"}
"""Camera name -> serial number."""
SIDES = {"left": 1.0, "right": -1.0, "wrist": 0.3}
"""Camera name -> factor of the square's lateral position."""
POSES = {
    name: np.array([0.3, y, 0.5, -2.0, 0.0, -2.0])
    for name, y in (("left", 0.6), ("right", -0.6), ("wrist", 0.0))
}
"""Camera name -> pose in the robot base frame [m, rad]."""


@dataclass(frozen=True, kw_only=True)
class DrawnSteps:
    """Rows of a synthetic episode; it has no recorded actions, so readers use differences."""

    frames: Mapping[str, Sequence[NDArray[np.uint8]]]
    states: Sequence[Array]
    joints: Sequence[Array]
    targets: Sequence[Array]
    times_s: Sequence[float]
    actions: Sequence[Array] = ()
    objects: Sequence[Array] = ()
    object_poses: Sequence[Array] = ()


def random_states(steps: int, seed: int) -> Array:
    """Return a smooth random walk of the flange [T, 7] within reach; its roll wraps at +-pi."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 2 * np.pi, 7), rng.uniform(0.6, 1.6, 7)
    wave_T7 = np.sin(phase + np.arange(steps)[:, None] / RATE_HZ * speed)
    middle = np.array([0.5, 0.0, 0.3, np.pi, 0.0, 0.0, 0.5])
    states_T7 = middle + wave_T7 * np.array([0.1, 0.2, 0.1, 0.1, 0.1, 0.3, 0.5])
    states_T7[:, 3:6] = (states_T7[:, 3:6] + np.pi) % (2 * np.pi) - np.pi
    return states_T7


def draw_frames(states_T7: Array, size: tuple[int, int], *, side: float = 1.0) -> NDArray[np.uint8]:
    """Return frames [T, H, W, 3] of a grey gradient and a square that encodes x, y and z."""
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


def draw_episode(
    root: Path,
    name: str,
    states_T7: Array,
    *,
    size: tuple[int, int] = (90, 160),
    cameras: tuple[str, ...] = ("left", "right", "wrist"),
) -> Path:
    """Draw an episode for `states_T7` and write it as raw DROID.

    Args:
        root: Folder of the data set.
        name: Name of the episode's folder.
        states_T7: Flange poses and closedness [T, 7].
        size: Height and width of the frames [px].
        cameras: Views to draw (`left`, `right`, `wrist`).

    Returns:
        The episode's folder.
    """
    steps = len(states_T7)
    drawn = DrawnSteps(
        frames={view: list(draw_frames(states_T7, size, side=SIDES[view])) for view in cameras},
        states=list(states_T7),
        joints=[np.linspace(0, 1, 7)] * steps,
        targets=[*states_T7[1:], states_T7[-1]],
        times_s=[FIRST_STAMP_S + round(step * 1000 / RATE_HZ) / 1000 for step in range(steps)],
    )
    return write_episode(
        root,
        drawn,
        success=True,
        task="follow the square",
        stamp=name,
        lab=LAB,
        date=DATE,
        header_fps=HEADER_FPS,
        serials=SERIALS,
        extrinsics={view: POSES[view] for view in cameras},
        codec_options=SYNTHETIC_CODEC,
        metadata={"user": "nobody", "robot_serial": "panda-1"},
    )


def write_dataset(
    root: Path, *, episodes: int, steps: int = 90, size: tuple[int, int] = (90, 160), seed: int = 0
) -> Path:
    """Write `episodes` episodes of `steps` steps under `root`, keeping existing ones."""
    for number in range(episodes):
        name = f"episode-{number:04d}"
        if not (root / LAB / "success" / DATE / name).is_dir():
            states_T7 = random_states(steps, seed * 100_003 + number)
            draw_episode(root, name, states_T7, size=size, cameras=("left",))
    return root
