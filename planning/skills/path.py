"""Paths of the fingertips, expanded to DROID actions for a whole batch at once.

Positions are of the point between the fingertips, in the base frame [m]; yaw is the gripper's
rotation about the vertical [rad], 0 where the fingers open along the base's y axis.

Shapes: B samples, K actions, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

STEP_M = 0.07
"""Maximum change of position per action and axis [m]; below the limit of every model and arm, so
that small corrections by an arm remain inside it."""
TURN_RAD = 0.15
"""Maximum rotation per action [rad]."""
YAW_LIMIT_RAD = 1.9
"""Maximum rotation of the gripper from its start pose [rad]; the wrist reaches -2.1 and 2.8."""
LOW_M, HIGH_M = (0.30, -0.30, 0.012), (0.68, 0.30, 0.40)
"""Default workspace of the fingertips [m]."""
ROUNDING = 1e-6
"""Fraction of an action by which a move may exceed the limit through rounding."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a skill starts. Each array may have a leading batch axis."""

    tcp_m: Array
    """Position of the fingertips [3] or [B, 3], m."""
    yaw_rad: ArrayLike = 0.0
    """Yaw of the gripper, scalar or [B], rad."""
    closed: ArrayLike = False
    """Whether the gripper is closed, scalar or [B]."""
    home_tcp_m: Array
    """Position of the fingertips at the start of the episode [3], m."""
    home_yaw_rad: float = 0.0
    """Yaw of the gripper at the start of the episode [rad]."""
    object_m: Array | None = None
    """Estimated position of the object [2] or [B, 2], m; None if unknown, which makes the start
    point a parameter of each skill that needs one."""
    heading_rad: ArrayLike = 0.0
    """Direction of the last push, scalar or [B], rad."""
    step_m: float = STEP_M
    """Maximum change of position per action and axis [m]."""
    turn_rad: float = TURN_RAD
    """Maximum rotation per action [rad]."""
    low_m: tuple[float, float, float] = LOW_M
    """Lower corner of the fingertips' workspace [m]."""
    high_m: tuple[float, float, float] = HIGH_M
    """Upper corner of the fingertips' workspace [m]."""


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """Actions of a batch of skills."""

    actions_BKA: NDArray[np.float32]
    """Actions; zero after each sample's length."""
    lengths_B: NDArray[np.int64]
    """Number of actions of each sample."""
    executed_B: NDArray[np.int64]
    """Number of actions to execute before the next observation."""
    contact_B: NDArray[np.int64]
    """Number of actions before the fingers first touch the object; 0 if the skill does not say."""
    last_B: NDArray[np.int64]
    """Number of actions before the last action that moves the object; 0 if it does not say."""
    end: Context
    """Nominal context after the last action; `object_m` is where the object should then be."""


class Path:
    """Batch of paths that grow leg by leg.

    Args:
        context: Start of the paths.
        batch: Number of paths B.
    """

    def __init__(self, context: Context, batch: int) -> None:
        self.context = context
        self.place_B3 = np.broadcast_to(context.tcp_m, (batch, 3)).astype(np.float64)
        self.yaw_B = np.broadcast_to(np.asarray(context.yaw_rad, np.float64), batch).copy()
        self.closed_B = np.broadcast_to(np.asarray(context.closed, bool), batch).copy()
        self.length_B = np.zeros(batch, dtype=np.int64)
        self.contact_B = np.zeros(batch, dtype=np.int64)
        self.last_B = np.zeros(batch, dtype=np.int64)
        self.heading_B = np.broadcast_to(np.asarray(context.heading_rad, np.float64), batch).copy()
        self.object_B2 = (
            None
            if context.object_m is None
            else np.broadcast_to(context.object_m, (batch, 2)).astype(np.float64)
        )
        self._legs: list[tuple[NDArray[np.int64], NDArray[np.int64], Array]] = []

    def go(
        self,
        xy_B2: ArrayLike | None = None,
        z_B: ArrayLike | None = None,
        *,
        yaw_B: ArrayLike | None = None,
        grip: float = 0.0,
        where_B: ArrayLike = True,
    ) -> None:
        """Add a straight leg; parts that are None keep their value.

        Args:
            xy_B2: Target position [B, 2] or [2], m.
            z_B: Target height, scalar or [B], m.
            yaw_B: Target yaw of the gripper, scalar or [B], rad.
            grip: Gripper command with the leg's first action: -1 open, 0 keep, +1 close.
            where_B: Paths that take the leg; the others do not move.
        """
        target_B3 = self.place_B3.copy()
        if xy_B2 is not None:
            target_B3[:, :2] = xy_B2
        if z_B is not None:
            target_B3[:, 2] = z_B
        target_B3 = np.clip(target_B3, self.context.low_m, self.context.high_m)
        where = np.broadcast_to(np.asarray(where_B, bool), self.length_B.shape)
        move_B3 = np.where(where[:, None], target_B3 - self.place_B3, 0.0)
        turn_B = np.zeros(len(where))
        if yaw_B is not None:
            home = self.context.home_yaw_rad
            limited = np.clip(yaw_B, home - YAW_LIMIT_RAD, home + YAW_LIMIT_RAD)
            turn_B = np.where(where, limited - self.yaw_B, 0.0)
        parts = np.maximum(
            np.abs(move_B3).max(axis=1) / self.context.step_m,
            np.abs(turn_B) / self.context.turn_rad,
        )
        count_B = np.ceil(parts - ROUNDING).astype(np.int64)
        if grip:
            count_B = np.where(
                where & (self.closed_B != (grip > 0)), np.maximum(count_B, 1), count_B
            )
            self.closed_B = np.where(where, grip > 0, self.closed_B)
        each = np.maximum(count_B, 1)
        step_BA = np.zeros((len(where), 7))
        step_BA[:, :3], step_BA[:, 5] = move_B3 / each[:, None], turn_B / each
        step_BA[:, 6] = np.where(where, grip, 0.0)
        self._legs.append((self.length_B.copy(), count_B, step_BA))
        self.length_B = self.length_B + count_B
        self.place_B3, self.yaw_B = self.place_B3 + move_B3, self.yaw_B + turn_B

    def actions(self) -> NDArray[np.float32]:
        """Return the actions [B, K, 7], zero after the end of each path; K is at least 1."""
        longest = max(int(self.length_B.max(initial=0)), 1)
        actions_BKA = np.zeros((len(self.length_B), longest, 7), dtype=np.float32)
        for start_B, count_B, step_BA in self._legs:
            for k in range(int(count_B.max(initial=0))):
                rows = np.flatnonzero(count_B > k)
                actions_BKA[rows, start_B[rows] + k, :6] = step_BA[rows, :6]
                if k == 0:
                    actions_BKA[rows, start_B[rows], 6] = step_BA[rows, 6]
        return actions_BKA

    def expansion(self) -> Expansion:
        """Return the finished paths; every action is executed before the next observation."""
        end = replace(
            self.context,
            tcp_m=self.place_B3,
            yaw_rad=self.yaw_B,
            closed=self.closed_B,
            heading_rad=self.heading_B,
            object_m=self.object_B2,
        )
        return Expansion(
            actions_BKA=self.actions(),
            lengths_B=self.length_B,
            executed_B=self.length_B,
            contact_B=self.contact_B,
            last_B=self.last_B,
            end=end,
        )


def join(first: Expansion, second: Expansion) -> Expansion:
    """Append the actions of `second`, which starts at `first.end`, sample by sample."""
    lengths_B = first.lengths_B + second.lengths_B
    longest = max(int(lengths_B.max(initial=0)), 1)
    actions_BKA = np.zeros((len(lengths_B), longest, 7), dtype=np.float32)
    for part, start_B in ((first, np.zeros_like(lengths_B)), (second, first.lengths_B)):
        columns = np.arange(part.actions_BKA.shape[1])
        rows, cols = np.nonzero(columns < part.lengths_B[:, None])
        actions_BKA[rows, start_B[rows] + cols] = part.actions_BKA[rows, cols]
    return replace(first, actions_BKA=actions_BKA, lengths_B=lengths_B, end=second.end)


def nearest_grip(yaw_B: ArrayLike, turn_B: ArrayLike = 0.0) -> Array:
    """Return the equivalent grip yaw [B] that needs the least rotation.

    A parallel gripper grips the same way after half a turn. The result keeps both the grip and the
    yaw after a further `turn_B` as close to 0 as possible.

    Args:
        yaw_B: Grip yaw relative to the start pose [rad].
        turn_B: Rotation while gripping [rad].
    """
    middle = np.asarray(yaw_B, np.float64) + np.asarray(turn_B, np.float64) / 2
    return np.asarray(yaw_B, np.float64) - np.pi * np.round(middle / np.pi)
