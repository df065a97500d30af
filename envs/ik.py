"""Damped least-squares inverse kinematics of the flange, with a pull toward a rest posture."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import UnreachableError
from robot.pose import euler_to_matrix

Array = NDArray[np.float64]

REST_Q = np.array([0.0, -0.2, 0.0, -2.3, 0.0, 2.1, 0.785])
"""Elbow up, tool down, flange over the middle of the table [rad]."""


class FlangeIK:
    """Solves joint positions for flange poses on a scratch copy of the simulation's data."""

    def __init__(
        self, model: mujoco.MjModel, site: str = "flange", margin_rad: float = 0.05
    ) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.site = model.site(site).id
        self.low = model.jnt_range[:7, 0] + margin_rad
        self.high = model.jnt_range[:7, 1] - margin_rad

    def pose(self, q: Array) -> tuple[Array, Array]:
        """Flange position [3, m] and rotation matrix [3, 3] at joint positions `q`."""
        self.data.qpos[:7] = q
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        return self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3)

    def solve(
        self, target: Array, q: Array, *, iterations: int = 60, tolerance_m: float = 1e-4
    ) -> Array:
        """Joint positions [7, rad] that bring the flange to `target` [x y z roll pitch yaw].

        Args:
            target: pose in the robot base frame (m, rad); further entries are ignored.
            q: joint positions to start from.
            iterations: most Newton steps.
            tolerance_m: largest position error (and rotation error in rad, times ten).

        Raises:
            UnreachableError: no solution within the joint limits.
        """
        wanted = euler_to_matrix(target[3:6])
        jacobian = np.zeros((6, self.model.nv))
        q = np.clip(q, self.low, self.high)
        error = np.zeros(6)
        for _ in range(iterations):
            position, rotation = self.pose(q)
            error[:3] = target[:3] - position
            error[3:] = _rotation_vector(wanted @ rotation.T)
            if np.abs(error[:3]).max() < tolerance_m and np.abs(error[3:]).max() < 10 * tolerance_m:
                return q
            mujoco.mj_jacSite(self.model, self.data, jacobian[:3], jacobian[3:], self.site)
            j = jacobian[:, :7]
            damped = j.T @ np.linalg.inv(j @ j.T + 1e-4 * np.eye(6))
            rest = (np.eye(7) - damped @ j) @ (REST_Q - q)
            q = np.clip(q + damped @ error + 0.05 * rest, self.low, self.high)
        raise UnreachableError(
            f"No joint positions bring the flange to {np.round(target[:6], 3).tolist()}: "
            f"{np.linalg.norm(error[:3]):.3f} m are left. Ask for a pose nearer the table's middle"
        )


def _rotation_vector(matrix: Array) -> Array:
    quaternion, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix).ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
