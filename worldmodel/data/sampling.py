"""Clips cut from an episode by its own clock: which control steps, states and actions.

Shapes: T control steps, K frames of a clip, S state (7), A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.actions import pose_diff
from worldmodel.data.episode import Array, Episode, EpisodeError, to_tcp
from worldmodel.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """What a clip is."""

    num_frames: int = 16
    fps: float = 4.0
    """Frames a second by the recorded timestamps; 16 at 4 span 3.75 s."""
    stride_s: float = 0.25
    """Time between the beginnings of two clips of an episode [s]."""
    state_frame: Literal["flange", "tcp"] = "flange"
    idle: Literal["keep", "drop"] = "keep"
    """`drop`: no clip holds a step at which movement was not enabled."""

    extrinsics: bool = False
    """Clips also hold the camera's pose at each frame."""

    def __post_init__(self) -> None:
        if self.num_frames < 2 or self.fps <= 0 or self.stride_s <= 0:
            raise ConfigError(
                f"num_frames={self.num_frames}, fps={self.fps}, stride_s={self.stride_s}; wanted "
                "at least 2 frames and a positive fps and stride"
            )

    @property
    def span_s(self) -> float:
        """Time between the first and the last frame [s]."""
        return (self.num_frames - 1) / self.fps


def grid_steps(times_s: Array, start_s: float, options: ClipOptions) -> NDArray[np.int64]:
    """Control steps [K] nearest to `start_s + k / fps`.

    Raises:
        EpisodeError: a recorded step is more than half a frame's time away (a gap).
    """
    wanted = start_s + np.arange(options.num_frames) / options.fps
    right = np.clip(np.searchsorted(times_s, wanted), 1, len(times_s) - 1)
    left = right - 1
    steps = np.where(wanted - times_s[left] <= times_s[right] - wanted, left, right)
    late = float(np.abs(times_s[steps] - wanted).max())
    if late > 0.5 / options.fps or (np.diff(steps) <= 0).any():
        raise EpisodeError(
            "timestamps_gap", f"no step within {0.5 / options.fps:.3f} s of a frame ({late:.3f} s)"
        )
    return steps


def find_clips(times_s: Array, moving_T: NDArray[np.bool_], options: ClipOptions) -> Array:
    """Start times [s] of all clips of an episode; those over gaps (or idle steps) are left out."""
    last = float(times_s[-1]) - options.span_s + 0.25 / options.fps
    found = []
    for start_s in np.arange(0.0, max(0.0, last + 1e-9), options.stride_s):
        try:
            steps = grid_steps(times_s, float(start_s), options)
        except EpisodeError:
            continue
        if options.idle == "keep" or moving_T[steps[0] : steps[-1] + 1].all():
            found.append(start_s)
    return np.array(found)


def state_actions(episode: Episode, steps: NDArray[np.int64], frame: str) -> tuple[Array, Array]:
    """States [K, 7] at `steps` and the actions [K-1, 7] between them."""
    states_KS = episode.states_TS[steps]
    if frame == "tcp":
        states_KS = to_tcp(states_KS)
    tensor = torch.from_numpy(np.ascontiguousarray(states_KS))
    return states_KS, pose_diff(tensor[:-1], tensor[1:]).numpy()
