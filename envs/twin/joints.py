"""How the simulated arm follows its commands: joints from poses, and servos that do not lag.

franky-sim works commanded joints out from the measured ones, to a tenth of a millimetre, and damps
the joints' whole velocity: the arm is 37 ms behind its command, and while it moves a contact finds
that way wound up behind it. Here commanded joints follow from the last commanded ones, and
damping acts on the difference from the commanded velocity, as an arm's own controller has it.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

DAMPING = 1e-4
"""Of the least squares: near a stretched arm small errors must not become large swivels."""
LIMIT_RAD = 0.005
"""Commanded joints keep this far from their stops."""
SMOOTHING = 0.5
"""Share of a new millisecond in the commanded velocity."""
MOST_RAD_S = 2.6
"""The fastest joint speed that the maker allows the arm's first joints."""


class Follower:
    """Commanded joint positions [7, rad] and velocities [7, rad/s]."""

    def __init__(self, model: mujoco.MjModel, tick_s: float) -> None:
        self.model, self.tick_s = model, tick_s
        self._data = mujoco.MjData(model)
        self._tcp = model.site("tcp").id
        self._jac = np.zeros((6, model.nv))
        low, high = model.jnt_range[:7].T
        self._low, self._high = low + LIMIT_RAD, high - LIMIT_RAD
        self.begin(np.zeros(7))

    def begin(self, q: ArrayLike) -> None:
        """The arm stands here, and is told to."""
        self.q, self.dq = np.array(q, dtype=float), np.zeros(7)

    def joints(self, position: Array, quaternion: Array) -> Array:
        """Joints [7] whose TCP is at a pose (m; w x y z), near the last commanded ones.

        A joint at its stop stays there, and the others do without it.
        """
        q, free = self.q.copy(), np.ones(7)
        for _ in range(3):
            error = self._error(q, position, quaternion)
            j = self._jac[:, :7] * free
            q += j.T @ np.linalg.solve(j @ j.T + DAMPING * np.eye(6), error)
            inside = np.clip(q, self._low, self._high)
            free[inside != q] = 0.0
            q = inside
        return q

    def _error(self, q: Array, position: Array, quaternion: Array) -> Array:
        """Pose difference [6: m, rad] in the base frame; leaves the Jacobian at `q` behind."""
        self._place(q)
        mujoco.mj_jacSite(self.model, self._data, self._jac[:3], self._jac[3:], self._tcp)
        now, back, turn, vector = np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(now, self._data.site_xmat[self._tcp])
        mujoco.mju_negQuat(back, now)
        mujoco.mju_mulQuat(turn, quaternion, back)
        mujoco.mju_quat2Vel(vector, turn, 1.0)
        return np.concatenate([position - self._data.site_xpos[self._tcp], vector])

    def _place(self, q: Array) -> None:
        self._data.qpos[:7] = q
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)

    def take(self, q: Array) -> tuple[Array, Array]:
        """Take joints [7] as the newest command.

        Returns:
            Commanded velocity [7, rad/s], and the torques [7, Nm] that its change needs.
        """
        wanted = np.clip((q - self.q) / self.tick_s, -MOST_RAD_S, MOST_RAD_S)
        change = np.zeros(self.model.nv)
        change[:7] = SMOOTHING * (wanted - self.dq) / self.tick_s
        self.dq += change[:7] * self.tick_s
        self.q = np.array(q, dtype=float)
        self._place(self.q)
        mujoco.mj_makeM(self.model, self._data)
        torques = np.zeros(self.model.nv)
        mujoco.mj_mulM(self.model, self._data, torques, change)
        return self.dq, torques[:7]
