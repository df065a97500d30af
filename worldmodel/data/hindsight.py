"""Object poses from proprioception alone, in hindsight: where the fingers held an object, it was.

While the fingers are shut on something, its pose is the gripper's. Before that it lay where it was
grasped, back to the last time that the fingers came near; after the release it lies where it was
released, until they come near again. No label of a simulator is used.

Shapes: T frames of an episode, S state (7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.constants import FLANGE_TO_HAND_YAW_RAD, FLANGE_TO_TCP_M

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

HELD_CLOSEDNESS = (0.25, 0.70)
"""Closedness of fingers that are shut on something, 2.4 to 6 cm wide; empty fingers close further,
even while a push against one of them opens them a little."""
STILL_CLOSEDNESS = 0.02
"""Maximum change of the closedness between two frames while an object is held."""
FEWEST_FRAMES = 3
"""Frames of the shortest hold; shorter ones are mostly pushes against one finger."""
LOW_M = 0.075
"""Height of the fingertips below which they may move an object on the table [m]."""
NEAR_M = 0.08
"""Horizontal distance to the object below which low fingertips may move it [m]."""
TABLE_GRIP_M = 0.05
"""Height of the fingertips below which a held object is on the table [m]."""
REST_HEIGHT_M = 0.022
"""Height of the centre of an object on the table [m]; objects differ by about 1 cm."""
RETREAT_M = 0.003
"""Minimum growth of the distance between two frames that counts as moving away [m]."""


@dataclass(frozen=True)
class HindsightLabels:
    """Poses of the object that was grasped, in the frames in which they are known."""

    position_T3: NDArray[np.float32]
    """Centre in the robot base frame [m]; NaN where it is not known."""
    yaw_T: NDArray[np.float32]
    """Direction of the side that is parallel to the finger pads, about the vertical and modulo pi,
    within +-pi/2 [rad]; NaN where it is not known."""
    contact_T: Mask
    """Whether the fingers hold the object, or are so near that they may move it."""


def fingertips(states_TS: Array) -> tuple[Array, Array]:
    """Return the position between the fingertips [T, 3, m] and the yaw of their pads [T, rad].

    Args:
        states_TS: Flange poses and closedness [T, 7], as in `Episode.states_TS`.
    """
    roll, pitch, yaw = np.moveaxis(states_TS[:, 3:6].astype(np.float64), -1, 0)
    sr, cr, sp, cp, sy, cy = (f(a) for a in (roll, pitch, yaw) for f in (np.sin, np.cos))
    x_T3 = np.stack([cy * cp, sy * cp, -sp], -1)
    y_T3 = np.stack([cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, cp * sr], -1)
    z_T3 = np.stack([cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr], -1)
    tcp_T3 = states_TS[:, :3] + FLANGE_TO_TCP_M * z_T3
    along_T3 = np.cos(FLANGE_TO_HAND_YAW_RAD) * x_T3 + np.sin(FLANGE_TO_HAND_YAW_RAD) * y_T3
    return tcp_T3, np.arctan2(along_T3[:, 1], along_T3[:, 0])


def hindsight_labels(states_TS: Array) -> HindsightLabels:
    """Label the frames of one episode from its robot states [T, 7].

    Source: hindsight relabelling (arXiv 1707.01495), applied to the pose of a grasped object.
    """
    return _Labeller(np.asarray(states_TS, dtype=np.float64)).label()


class _Labeller:
    """Working arrays of one episode."""

    def __init__(self, states_TS: Array) -> None:
        self.tcp_T3, self.grip_yaw_T = fingertips(states_TS)
        self.closed_T = states_TS[:, 6]
        self.held_T = _held(self.closed_T)
        count = len(states_TS)
        self.position_T3 = np.full((count, 3), np.nan)
        self.yaw_T = np.full(count, np.nan)
        self.contact_T = self.held_T.copy()

    def label(self) -> HindsightLabels:
        edges = np.flatnonzero(np.diff(np.r_[False, self.held_T, False].astype(int)))
        runs = zip(edges[::2], edges[1::2] - 1, strict=True)
        grasps = [(first, last) for first, last in runs if last - first + 1 >= FEWEST_FRAMES]
        for first, last in grasps:
            self._while_held(first, last)
        for first, last in grasps:  # where both reach, the release before is the nearer evidence
            self._after_release(last)
            self._before_grasp(first)
        yaw_T = np.remainder(self.yaw_T + np.pi / 2, np.pi) - np.pi / 2
        return HindsightLabels(
            self.position_T3.astype(np.float32), yaw_T.astype(np.float32), self.contact_T
        )

    def _while_held(self, first: int, last: int) -> None:
        held = slice(first, last + 1)
        self.position_T3[held] = self.tcp_T3[held]
        if self.tcp_T3[first, 2] < TABLE_GRIP_M:  # it was grasped on the table: its centre is known
            self.position_T3[held, 2] += REST_HEIGHT_M - self.tcp_T3[first, 2]
        self.yaw_T[held] = self.grip_yaw_T[held]

    def _near(self, t: int, place_3: Array) -> bool:
        gap = float(np.linalg.norm(self.tcp_T3[t, :2] - place_3[:2]))
        return bool(self.tcp_T3[t, 2] < LOW_M and gap < NEAR_M)

    def _gap(self, t: int, place_3: Array) -> float:
        return float(np.linalg.norm(self.tcp_T3[t] - place_3))

    def _fill(self, t: int, place_3: Array, yaw: float) -> None:
        self.position_T3[t], self.yaw_T[t] = place_3, yaw

    def _before_grasp(self, first: int) -> None:
        """Label the frames before a grasp, back to the last contact that moved the object."""
        place_3, yaw = self.position_T3[first].copy(), float(self.yaw_T[first])
        if place_3[2] > TABLE_GRIP_M:
            return  # caught in the air: where it came from is not known
        t = first - 1
        while t >= 0 and self._is_free(t) and self._near(t, place_3):  # the approach
            self._fill(t, place_3, yaw)
            t -= 1
        while t >= 0 and self._is_free(t) and not self._near(t, place_3):
            self._fill(t, place_3, yaw)
            t -= 1
        while t >= 0 and self._is_free(t) and self._near(t, place_3):  # a push, from its end
            self.contact_T[t] = True
            if self._gap(t + 1, place_3) - self._gap(t, place_3) > RETREAT_M:
                self._fill(t, place_3, yaw)
                t -= 1
                continue
            break
        while t >= 0 and self._is_free(t) and self._near(t, place_3):
            self.contact_T[t] = True
            t -= 1

    def _after_release(self, last: int) -> None:
        """Label the frames after a release on the table, until the fingers come near again."""
        place_3, yaw = self.position_T3[last].copy(), float(self.yaw_T[last])
        if place_3[2] > TABLE_GRIP_M:
            return  # dropped: where it came to rest is not known
        place_3[2] = REST_HEIGHT_M
        t, count = last + 1, len(self.held_T)
        while t < count and self._is_free(t) and self._near(t, place_3):
            if t > last + 1 and self._gap(t, place_3) - self._gap(t - 1, place_3) < RETREAT_M:
                break
            self._fill(t, place_3, yaw)
            t += 1
        while t < count and self._is_free(t) and not self._near(t, place_3):
            self._fill(t, place_3, yaw)
            t += 1

    def _is_free(self, t: int) -> bool:
        """Return whether a frame has no label yet and the fingers hold nothing."""
        return not self.held_T[t] and bool(np.isnan(self.yaw_T[t]))


def _held(closed_T: Array) -> Mask:
    """Return where the fingers are shut on something: neither open, nor empty, nor moving."""
    low, high = HELD_CLOSEDNESS
    between_T = (closed_T > low) & (closed_T < high)
    still_T = np.abs(np.diff(closed_T)) < STILL_CLOSEDNESS
    return between_T & (np.r_[False, still_T] | np.r_[still_T, False])
