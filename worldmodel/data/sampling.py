"""Select the control steps of a clip by the episode's clock, with their states and actions.

Shapes: T control steps, K frames of a clip, S state (7), A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.actions import convert_state, pose_diff
from worldmodel.checked import Checked, between
from worldmodel.data.episode import Array, Episode, EpisodeError
from worldmodel.specs import StateFrame


@dataclass(frozen=True, kw_only=True)
class ClipOptions(Checked):
    """Length, rate and content of clips."""

    num_frames: int = field(default=16, metadata=between(2, 4096, "frames"))
    """Number of frames of a clip."""
    fps: float = field(default=4.0, metadata=between(1e-6, 1000, "Hz"))
    """Frame rate, measured by the recorded timestamps [Hz]; 16 frames at 4 Hz span 3.75 s."""
    stride_s: float = field(default=0.25, metadata=between(1e-6, 86_400, "s"))
    """Time between the starts of consecutive clips of an episode [s]."""
    state_frame: StateFrame = "flange"
    """Frame whose pose, in the robot base frame, the states hold."""
    idle: Literal["keep", "drop"] = "keep"
    """Whether to drop clips with a step at which movement was not enabled (`drop`)."""
    views: tuple[str, ...] = ()
    """Cameras of each frame, in order; empty for the camera of the index."""
    extrinsics: bool = False
    """Whether clips include the camera's pose at each frame."""

    @property
    def span_s(self) -> float:
        """Return the time from the first to the last frame [s]."""
        return (self.num_frames - 1) / self.fps


def nearest_steps(
    times_s: Array, wanted_s: Array, fps: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the control steps nearest to a grid of times, and a mask of valid matches.

    Args:
        times_s: Recorded times [T, s], non-decreasing.
        wanted_s: Grid times [K, s], spaced by `1 / fps`.
        fps: Rate of the grid [Hz].

    Returns:
        Steps [K], the earlier one in a tie; and a mask [K] that is False where the nearest step is
        more than half a grid step away or already matches the previous time.
    """
    right_K = np.clip(np.searchsorted(times_s, wanted_s), 1, len(times_s) - 1)
    is_left_K = wanted_s - times_s[right_K - 1] <= times_s[right_K] - wanted_s
    steps_K = np.where(is_left_K, right_K - 1, right_K)
    good_K = np.abs(times_s[steps_K] - wanted_s) <= 0.5 / fps
    good_K[1:] &= ~good_K[:-1] | (np.diff(steps_K) > 0)
    return steps_K, good_K


def grid_steps(times_s: Array, start_s: float, options: ClipOptions) -> NDArray[np.int64]:
    """Return the control steps [K] nearest to `start_s + k / fps`.

    Raises:
        EpisodeError: The recording has a gap: a step is more than half a frame period from its grid
            time.
    """
    wanted_s = start_s + np.arange(options.num_frames) / options.fps
    steps_K, good_K = nearest_steps(times_s, wanted_s, options.fps)
    if not good_K.all():
        late_s = float(np.abs(times_s[steps_K] - wanted_s).max())
        raise EpisodeError(
            "timestamps_gap", f"a step is {late_s:.3f} s off; {0.5 / options.fps:.3f} s are allowed"
        )
    return steps_K


def grid_runs(times_s: Array, fps: float) -> list[NDArray[np.int64]]:
    """Return the control steps nearest to 0, 1 / fps, 2 / fps, ... as gap-free runs."""
    wanted_s = np.arange(0.0, float(times_s[-1]) + 0.25 / fps, 1 / fps)
    steps_K, good_K = nearest_steps(times_s, wanted_s, fps)
    breaks = np.flatnonzero(np.diff(good_K.astype(int))) + 1
    runs = np.split(np.arange(len(steps_K)), breaks)
    return [steps_K[run] for run in runs if len(run) > 1 and good_K[run[0]]]


def sequences(times_s: Array, fps: float) -> list[NDArray[np.int64]]:
    """Return all control steps of an episode at `fps` as gap-free runs.

    A recording at about `fps` is used step by step; a faster one is subsampled to the steps nearest
    to 0, 1 / fps, 2 / fps, ... by its timestamps.

    Raises:
        EpisodeError: The recording is slower than `fps`.
    """
    dt_s = float(np.median(np.diff(times_s)))
    if dt_s > 1.25 / fps:
        raise EpisodeError("too_slow", f"steps are {dt_s:.3f} s apart; at most {1 / fps:.3f} s fit")
    if dt_s < 0.8 / fps:
        return grid_runs(times_s, fps)
    late = np.flatnonzero(np.diff(times_s) > 1.5 / fps)
    return list(np.split(np.arange(len(times_s)), late + 1))


def find_clips(times_s: Array, moving_T: NDArray[np.bool_], options: ClipOptions) -> Array:
    """Return the start times [s] of all clips of an episode without gaps or idle steps."""
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


def states_of(states_TS: Array, frame: StateFrame) -> Tensor:
    """Convert recorded flange states [T, S] to states of `frame`, in float64."""
    return convert_state(torch.from_numpy(np.ascontiguousarray(states_TS)), "flange", frame)


def state_actions(
    episode: Episode, steps: NDArray[np.int64], frame: StateFrame
) -> tuple[Array, Array]:
    """Return the states [K, S] at `steps` and the actions [K-1, A] between them.

    Actions are differences of states, or from a state to the last one commanded before the next.

    Args:
        episode: The recorded episode.
        steps: Control steps [K], increasing.
        frame: `flange`, as recorded, or `tcp`, the point between the fingertips.
    """
    states_KS = states_of(episode.states_TS[steps], frame)
    next_KS = states_KS[1:]
    if episode.targets_TS is not None:
        next_KS = states_of(episode.targets_TS[steps[1:] - 1], frame)
    return states_KS.numpy(), pose_diff(states_KS[:-1], next_KS).numpy()
