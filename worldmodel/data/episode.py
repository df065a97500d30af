"""A recorded episode, independent of its storage layout, and checks of its content.

Shapes: T control steps, S state (7), J joints (7), E extrinsics (6), M objects, K requested frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.errors import DataError
from worldmodel.shutdown import stop_again_after

Array = NDArray[np.float64]
Frames = NDArray[np.uint8]


class EpisodeError(DataError):
    """An episode is unusable; `reason` is the short code under which rejects are counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


@contextlib.contextmanager
def rejecting(name: str) -> Iterator[None]:
    """Turn any fault of reading one episode into an `EpisodeError`, so that it stops no other.

    Args:
        name: Name of the episode for the message.

    Raises:
        EpisodeError: As raised in the block, or `reader_failed` for any other exception.
        DataError: As raised in the block: a fault of the whole data set.
        Stopped: A library raised the error in place of a signal's exception.
    """
    try:
        yield
    except DataError as error:
        stop_again_after(error)
        raise
    except Exception as error:  # anything that the bytes of a stranger's file can provoke
        stop_again_after(error)
        message = f"{name}: {type(error).__name__}: {str(error)[:500]}"
        raise EpisodeError("reader_failed", message) from error


class FrameSource(Protocol):
    """Frames of one camera, indexed by control step and never by the header's frame rate."""

    def __len__(self) -> int:
        """Return the number of frames in the recording."""

    def read(self, steps: NDArray[np.int64]) -> Frames:
        """Return the RGB frames [K, H, W, 3] of increasing control steps."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A view of an episode: a camera and its recorded frames."""

    name: str
    """Name: `left`, `right` or `wrist`."""
    serial: str
    """Serial number, or the view's name in data sets without serial numbers."""
    frames: FrameSource
    extrinsics_TE: Array | None = None
    """Camera poses [T, 6] in the robot base frame [m, rad], if recorded."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """States, times and views of T control steps.

    A state holds the flange's x y z [m] in the robot base frame, extrinsic xyz Euler angles [rad],
    and the gripper's closedness, 0 open to 1 closed. Source: the DROID data set (arXiv 2403.12945).
    """

    id: str
    """Identifier of the episode in its data set."""
    layout: str
    """Layout of the files: `droid`, `rlds` or `lerobot`."""
    states_TS: Array
    """States [T, S], as above."""
    times_s: Array
    """Seconds since the first step [T], from the recorded timestamps."""
    cameras: dict[str, Camera]
    """Views by name."""
    moving_T: NDArray[np.bool_]
    """Whether movement was enabled at each step [T]."""
    joints_TJ: Array | None = None
    """Joint angles [T, J] in rad, if recorded."""
    actions_TA: Array | None = None
    """Actions as sent [T, A] (`action/delta` of our own recordings); None if unknown, in which case
    differences of the states serve as actions."""
    targets_TS: Array | None = None
    """Commanded state of each step [T, S], if the map of columns names some; actions then lead from
    a state to the last state commanded before the next one."""
    objects_T3: Array | None = None
    """Position of the first object in the robot base frame [T, 3, m]; a label from simulators."""
    object_poses_TM4: Array | None = None
    """Position [m] and yaw [rad] of each object [T, M, 4]; from simulators, for evaluation only."""
    success: bool | None = None
    """Whether the task succeeded; None if it was not recorded."""
    task: str = ""
    """Task description in words."""
    notes: tuple[str, ...] = field(default=())
    """Codes of harmless defects, such as a video that is one frame short."""

    def __len__(self) -> int:
        """Return the number of control steps with a state and a frame of every camera."""
        return len(self.states_TS)

    @property
    def seconds(self) -> float:
        """Return the duration from the first to the last step [s]."""
        return float(self.times_s[-1] - self.times_s[0])

    def camera(self, name: str) -> Camera:
        """Return a view by its name (`left`, `right`, `wrist`) or serial number.

        Raises:
            EpisodeError: The episode does not have this view.
        """
        for camera in self.cameras.values():
            if name in {camera.name, camera.serial}:
                return camera
        raise EpisodeError(
            "camera_unknown", f"no camera {name!r} in {self.id}; it has {sorted(self.cameras)}"
        )

    def extrinsics(self, name: str) -> Array:
        """Return the camera poses [T, 6] of a view in the robot base frame [m, rad].

        Raises:
            EpisodeError: The poses were not recorded: missing, NaN, all zero, or not in metres.
        """
        found_TE = self.camera(name).extrinsics_TE
        if found_TE is None or found_TE.shape[1:] != (6,) or len(found_TE) < len(self):
            shape = None if found_TE is None else found_TE.shape
            raise EpisodeError(
                "extrinsics_missing",
                f"the poses of camera {name} of {self.id} are {shape}; [T, 6] is needed",
            )
        unknown = np.flatnonzero(~known_poses(found_TE))
        if len(unknown):
            raise EpisodeError(
                "extrinsics_missing",
                f"{len(unknown)} poses of camera {name} of {self.id} are NaN, zero or not in "
                f"metres, first at step {unknown[0]}",
            )
        return found_TE[: len(self)]


def check_states(states_TS: Array) -> None:
    """Check that states are plausible metres, radians and closedness.

    Raises:
        EpisodeError: There are fewer than two states, non-finite values, angles beyond +-pi
            (perhaps degrees), positions beyond 3 m, or a closedness outside -0.1 to 1.1.
    """
    if len(states_TS) < 2:
        raise EpisodeError("zero_length", f"{len(states_TS)} control steps; at least 2 are needed")
    bad = np.flatnonzero(~np.isfinite(states_TS).all(1))
    if len(bad):
        raise EpisodeError(
            "pose_not_finite", f"{len(bad)} states hold NaN or infinity, first at step {bad[0]}"
        )
    angle = float(np.abs(states_TS[:, 3:6]).max())
    if angle > np.pi + 1e-3:
        raise EpisodeError(
            "angles_not_radians", f"an Euler angle is {angle:.1f}; radians stay within +-3.1416"
        )
    reach = float(np.abs(states_TS[:, :3]).max())
    if reach > 3.0:
        raise EpisodeError(
            "position_not_metres", f"a position is {reach:.1f}; arms reach up to 3 m"
        )
    low, high = float(states_TS[:, 6].min()), float(states_TS[:, 6].max())
    if low < -0.1 or high > 1.1:
        raise EpisodeError(
            "gripper_out_of_range", f"closedness is {low:.2f} to {high:.2f}; 0 to 1 is allowed"
        )


def check_times(times_s: Array) -> None:
    """Check that timestamps increase, are complete, and are in seconds.

    Raises:
        EpisodeError: `zero_length`, `timestamps_missing`, `timestamps_not_increasing`, or
            `timestamps_wrong_unit` where the median step is not 0.002 to 5 s.
    """
    if len(times_s) < 2:
        raise EpisodeError("zero_length", f"{len(times_s)} steps; at least 2 are needed")
    bad = np.flatnonzero(~np.isfinite(times_s))
    if len(bad):
        raise EpisodeError("timestamps_missing", f"{len(bad)} timestamps are NaN")
    gaps = np.diff(times_s)
    if (gaps < 0).any() or times_s[-1] <= times_s[0]:
        step = int(np.argmin(gaps))
        raise EpisodeError(
            "timestamps_not_increasing",
            f"time goes from {times_s[step]:.3f} s to {times_s[step + 1]:.3f} s at step {step}",
        )
    middle = float(np.median(gaps))
    if not 2e-3 <= middle <= 5.0:
        raise EpisodeError(
            "timestamps_wrong_unit", f"steps are {middle:.2g} s apart; 0.002 to 5 s is allowed"
        )


MAX_CAMERA_M = 10.0
"""Maximum coordinate of a plausible camera pose in the robot base frame [m]."""


def known_poses(poses_TE: Array) -> NDArray[np.bool_]:
    """Return which of the camera poses [T, 6] were recorded: finite, not all zero, in metres."""
    recorded_T = np.isfinite(poses_TE).all(1) & (poses_TE != 0).any(1)
    known_T: NDArray[np.bool_] = recorded_T & (np.abs(poses_TE[:, :3]) <= MAX_CAMERA_M).all(1)
    return known_T


def first_pose(poses_TE: Array | None) -> Array | None:
    """Return the first known pose [6] of camera poses [T, 6], or None."""
    if poses_TE is None:
        return None
    steps = np.flatnonzero(known_poses(poses_TE))
    return poses_TE[steps[0]] if len(steps) else None


def name_sides(poses: dict[str, Array | None]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Determine which exterior view is the left one: the one with the larger y in the base frame.

    Args:
        poses: View -> camera pose [6], or None if it was not recorded. A pose that is not finite,
            all zero or not in metres counts as not recorded.

    Returns:
        Side -> view, and notes: `left_assumed` if the first of two views is assumed to be the left,
        because a pose is unknown or both have the same y.
    """
    found = {view: first_pose(pose[None]) for view, pose in poses.items() if pose is not None}
    known = {view: pose for view, pose in found.items() if pose is not None}
    order = list(poses)
    sides = {float(pose[1]) for pose in known.values()}
    if len(sides) == len(poses):
        order.sort(key=lambda view: -float(known[view][1]))
    notes = ("left_assumed",) if len(poses) > 1 and len(sides) < len(poses) else ()
    return dict(zip(("left", "right"), order, strict=False)), notes
