"""Joint commands of the simulated arm: inverse kinematics and velocity feed-forward.

franky-sim computes commanded joints from the measured ones, to 0.1 mm, and damps the whole joint
velocity. The arm then lags its command by 37 ms, and a contact feels the accumulated distance as
extra force. Here commanded joints follow from the last commanded ones, and damping acts on the
difference from the commanded velocity, as in a real arm's controller.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.ik import SiteKinematics
from robot.kinematics import damped_least_squares

Array = NDArray[np.float64]

LIMIT_RAD = 0.005
"""Margin kept from every joint limit [rad]."""
SMOOTHING = 0.5
"""Weight of the newest sample in the filtered commanded velocity."""
MAX_RAD_S = 2.6
"""The manufacturer's speed limit of the arm's first joints [rad/s]."""


class Follower:
    """Tracks the commanded joint positions `q` [7, rad] and velocities `dq` [7, rad/s].

    Args:
        model: Compiled scene.
        tick_s: Time between two commands [s].
    """

    def __init__(self, model: mujoco.MjModel, tick_s: float) -> None:
        self.model, self.tick_s = model, tick_s
        self._tcp = SiteKinematics(model, "tcp")
        low, high = model.jnt_range[:7].T
        self._low, self._high = low + LIMIT_RAD, high - LIMIT_RAD
        self.begin(np.zeros(7))

    def begin(self, q: ArrayLike) -> None:
        """Reset the commanded joints to `q` [7, rad], at rest."""
        self.q, self.dq = np.array(q, dtype=float), np.zeros(7)

    def joints(self, position: Array, quaternion: Array) -> Array:
        """Return joint positions [7, rad], near the last commanded ones, for a TCP pose.

        A joint that reaches its limit stays there, and the others compensate.

        Args:
            position: Position in the base frame [3, m].
            quaternion: Orientation [w, x, y, z]; a quaternion and its negative are the same.
        """
        q, free = self.q.copy(), np.ones(7)
        for _ in range(3):
            error = self._error(q, position, quaternion)
            q += damped_least_squares(error, self._tcp.jacobian(), free=free)
            inside = np.clip(q, self._low, self._high)
            free[inside != q] = 0.0
            q = inside
        return q

    def _error(self, q: Array, position: Array, quaternion: Array) -> Array:
        """Return the pose difference [6: m, rad] in the base frame at joint positions `q`."""
        self._tcp.place(q)
        now, back, turn, vector = np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(now, self._tcp.rotation.ravel())
        mujoco.mju_negQuat(back, now)
        mujoco.mju_mulQuat(turn, quaternion, back)
        mujoco.mju_quat2Vel(vector, turn, 1.0)
        return np.concatenate([position - self._tcp.position, vector])

    def take(self, q: Array) -> tuple[Array, Array]:
        """Record joint positions [7, rad] as the newest command.

        Returns:
            Commanded velocity [7, rad/s] and feed-forward torques [7, Nm] for its change.
        """
        wanted = np.clip((q - self.q) / self.tick_s, -MAX_RAD_S, MAX_RAD_S)
        change = np.zeros(self.model.nv)
        change[:7] = SMOOTHING * (wanted - self.dq) / self.tick_s
        self.dq += change[:7] * self.tick_s
        self.q = np.array(q, dtype=float)
        self._tcp.place(self.q)
        mujoco.mj_makeM(self.model, self._tcp.data)
        torques = np.zeros(self.model.nv)
        mujoco.mj_mulM(self.model, self._tcp.data, torques, change)
        return self.dq, torques[:7]
