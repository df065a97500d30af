"""One recorded episode, whatever file it came from.

Shapes: T control steps, S state (7), J joints (7), E extrinsics (6), K frames asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worldmodel.constants import FLANGE_TO_TCP_M
from worldmodel.errors import DataError

Array = NDArray[np.float64]
Frames = NDArray[np.uint8]


class EpisodeError(DataError):
    """An episode cannot be used; `reason` is the short code that rejects are counted by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class FrameSource(Protocol):
    """Frames of one camera, counted in control steps (never by a header's frame rate)."""

    def __len__(self) -> int:
        """Frames that exist."""
        ...

    def read(self, steps: NDArray[np.int64]) -> Frames:
        """RGB frames [K, H, W, 3] of rising control steps."""
        ...


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One view of an episode."""

    name: str
    """`left`, `right` or `wrist`."""
    serial: str
    frames: FrameSource
    extrinsics_TE: Array | None = None
    """Pose of the camera in the robot base frame [m, rad], when recorded."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """States, times and views of T control steps.

    States [T, 7]: flange x y z [m] in the robot base frame, extrinsic xyz Euler angles [rad],
    closedness 0 open .. 1 closed. Source: the DROID data set (arXiv 2403.12945).
    """

    id: str
    layout: str
    """`droid`, `rlds` or `lerobot`."""
    states_TS: Array
    times_s: Array
    """Seconds since the first step, from the recorded timestamps [T]."""
    cameras: dict[str, Camera]
    moving_T: NDArray[np.bool_]
    """False where the operator had not enabled movement."""
    joints_TJ: Array | None = None
    actions_TA: Array | None = None
    """The action as sent at each step [T, 7] (`action/delta` of our own recordings); None: take
    the differences of the states."""
    objects_T3: Array | None = None
    """Where the object is [m] in the robot base frame: a simulator's label, else None."""
    success: bool | None = None
    task: str = ""
    notes: tuple[str, ...] = field(default=())
    """Harmless oddities, e.g. a video one frame short."""

    def __len__(self) -> int:
        """Control steps that have a state and a frame of every camera."""
        return len(self.states_TS)

    @property
    def seconds(self) -> float:
        """Time between the first and the last step."""
        return float(self.times_s[-1] - self.times_s[0])

    def camera(self, name: str) -> Camera:
        """A view by name (`left`, `right`, `wrist`) or serial.

        Raises:
            EpisodeError: this episode has no such view.
        """
        for camera in self.cameras.values():
            if name in {camera.name, camera.serial}:
                return camera
        raise EpisodeError(
            "camera_unknown", f"no camera {name!r} in {self.id}; it has {sorted(self.cameras)}"
        )

    def extrinsics(self, name: str) -> Array:
        """A view's poses [T, 6] in the robot base frame [m, rad], one a control step.

        Raises:
            EpisodeError: nobody recorded them, or they are not finite.
        """
        found_TE = self.camera(name).extrinsics_TE
        if found_TE is None or found_TE.shape[1:] != (6,) or len(found_TE) < len(self):
            shape = None if found_TE is None else found_TE.shape
            raise EpisodeError(
                "extrinsics_missing", f"camera {name} of {self.id}: {shape}; wanted [T, 6]"
            )
        if not np.isfinite(found_TE).all():
            raise EpisodeError("extrinsics_missing", f"camera {name} of {self.id} has NaN poses")
        return found_TE[: len(self)]


def check_states(states_TS: Array) -> None:
    """Refuse states that cannot be metres, radians and closedness.

    Raises:
        EpisodeError: not finite, angles beyond +-pi (degrees), positions beyond an arm's reach,
            or a gripper outside 0..1.
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
        raise EpisodeError("position_not_metres", f"a position is {reach:.1f}; an arm ends at 3 m")
    low, high = float(states_TS[:, 6].min()), float(states_TS[:, 6].max())
    if low < -0.1 or high > 1.1:
        raise EpisodeError(
            "gripper_out_of_range", f"closedness spans {low:.2f}..{high:.2f}; wanted 0 to 1"
        )


def check_times(times_s: Array) -> None:
    """Refuse clocks that stand still, run backwards, miss a tick or count in another unit.

    Raises:
        EpisodeError: with one of the timestamp reasons.
    """
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
            "timestamps_wrong_unit", f"steps are {middle:.2g} s apart; wanted 0.002 to 5 s"
        )


def name_sides(poses: dict[str, Array | None]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which exterior view is left (larger y in the base frame) and which right.

    Args:
        poses: view -> camera pose [6] or None where nobody recorded it.

    Returns:
        Side -> view, and notes: `left_assumed` where the first of two views is taken for left.
    """
    if not poses:
        return {}, ()
    known = {view: pose for view, pose in poses.items() if pose is not None and len(pose) > 1}
    order = list(poses)
    if len(known) == len(poses):
        order.sort(key=lambda view: -float(known[view][1]))
    notes = ("left_assumed",) if len(poses) > 1 and len(known) < len(poses) else ()
    return dict(zip(("left", "right"), order, strict=False)), notes


def to_tcp(states_TS: Array, length_m: float = FLANGE_TO_TCP_M) -> Array:
    """States of the tool centre point from flange states: a shift along the flange's z axis."""
    (sa, sb, sc), (ca, cb, cc) = np.sin(states_TS[:, 3:6]).T, np.cos(states_TS[:, 3:6]).T
    axis_T3 = np.stack([cc * sb * ca + sc * sa, sc * sb * ca - cc * sa, cb * ca], axis=1)
    out = states_TS.copy()
    out[:, :3] += length_m * axis_T3
    return out
