"""Inverse kinematics in MuJoCo: flange pose, with a null-space pull toward a rest posture."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import UnreachableError
from robot.kinematics import damped_least_squares
from robot.pose import euler_to_matrix

Array = NDArray[np.float64]

REST_Q = np.array([0.0, -0.2, 0.0, -2.3, 0.0, 2.1, 0.785])
"""Rest posture [7, rad]: elbow up, tool down, flange over the centre of the table."""
REST_SHARE = 0.05
"""Fraction of the distance to the rest posture per step, in the null space of the pose."""


class SiteKinematics:
    """Forward kinematics of a site on the arm, computed on separate simulation data.

    Args:
        model: Compiled scene; its first seven joints are the arm's.
        site: Name of the site.
    """

    def __init__(self, model: mujoco.MjModel, site: str) -> None:
        self.model, self.data = model, mujoco.MjData(model)
        self.site = model.site(site).id
        self._jacobian = np.zeros((6, model.nv))

    def place(self, q: Array) -> None:
        """Compute the kinematics at joint positions [7, rad]."""
        self.data.qpos[:7] = q
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    @property
    def position(self) -> Array:
        """Position of the site in the base frame [3, m]; a view."""
        return np.asarray(self.data.site_xpos[self.site])

    @property
    def rotation(self) -> Array:
        """Rotation matrix of the site in the base frame [3, 3]; a view."""
        return np.asarray(self.data.site_xmat[self.site].reshape(3, 3))

    def jacobian(self) -> Array:
        """Return the site's velocity (m/s, rad/s, base frame) per joint velocity [6, 7]; a view."""
        mujoco.mj_jacSite(self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.site)
        return self._jacobian[:, :7]


class FlangeIK:
    """Solves for joint positions that bring a site to a pose.

    Args:
        model: Compiled scene; its first seven joints are the arm's.
        site: Name of the site.
        margin_rad: Margin kept from every joint limit [rad].
    """

    def __init__(
        self, model: mujoco.MjModel, site: str = "flange", margin_rad: float = 0.05
    ) -> None:
        self.kinematics = SiteKinematics(model, site)
        self.low = model.jnt_range[:7, 0] + margin_rad
        self.high = model.jnt_range[:7, 1] - margin_rad

    def solve(
        self, target: Array, q: Array, *, iterations: int = 60, tolerance_m: float = 1e-4
    ) -> Array:
        """Return joint positions [7, rad] that bring the site to a pose.

        Args:
            target: Pose [x y z roll pitch yaw, ...] in the base frame (m, rad).
            q: Joint positions to start from [7, rad].
            iterations: Maximum number of steps.
            tolerance_m: Maximum position error [m]; the rotation tolerance in rad is ten times this
                number.

        Raises:
            UnreachableError: No solution within the joint limits.
        """
        target_rotation = euler_to_matrix(target[3:6])
        q = np.clip(q, self.low, self.high)
        error = np.zeros(6)
        for _ in range(iterations):
            self.kinematics.place(q)
            error[:3] = target[:3] - self.kinematics.position
            error[3:] = _rotation_vector(target_rotation @ self.kinematics.rotation.T)
            if np.abs(error[:3]).max() < tolerance_m and np.abs(error[3:]).max() < 10 * tolerance_m:
                return q
            j = self.kinematics.jacobian()
            inverse = damped_least_squares(np.eye(6), j)
            rest_step = (np.eye(7) - inverse @ j) @ (REST_Q - q)
            q = np.clip(q + inverse @ error + REST_SHARE * rest_step, self.low, self.high)
        raise UnreachableError(
            f"No joint positions bring the flange to {np.round(target[:6], 3).tolist()}: "
            f"{np.linalg.norm(error[:3]):.3f} m short. Choose a pose nearer the table's centre"
        )


def _rotation_vector(matrix: Array) -> Array:
    quaternion, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix).ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
