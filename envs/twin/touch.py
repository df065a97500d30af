"""Contact estimates of the simulated arm: external joint torques and a wrench at the TCP."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMOOTHING = 0.2
"""Share of a new millisecond in the estimate, a time constant of 4.5 ms. This is an assumption: the
maker states none for its own filter."""


class Touch:
    """Estimates external joint torques and wrench from contacts of the arm with other bodies.

    Contacts among the arm's own bodies are ignored, and the fingers' forces on a held object
    cancel. As on the real arm, the wrench is the one at the TCP that explains the torques, so a
    forearm contact appears in it too.

    Args:
        model: Compiled scene.
        data: Simulation data.

    Source: libfranka's `tau_ext_hat_filtered` and `O_F_ext_hat_K`, without a real arm's model
        errors; libfranka documents that collision thresholds apply to the latter.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self.model, self.data = model, data
        self.tcp = model.site("tcp").id
        root = int(model.body_rootid[model.body("hand").id])
        self.own = np.asarray(model.body_rootid)[np.asarray(model.geom_bodyid)] == root
        """Whether each geom belongs to the arm."""
        self.dofs = [model.joint(f"fr3_joint{i}").dofadr[0] for i in range(1, 8)]
        self._jac = np.zeros((2, 3, model.nv))
        self.clear()

    def clear(self) -> None:
        """Reset the estimates."""
        self.torques: Array = np.zeros(7)
        self.wrench: Array = np.zeros(6)

    def feel(self) -> None:
        """Update `torques` [7, Nm] and `wrench` [6, N and Nm] from the last step's contacts.

        The wrench acts on the hand at its TCP, along the base frame's axes.
        """
        self.torques += SMOOTHING * (self._torques() - self.torques)
        if np.abs(self.torques).max() < 1e-3:
            self.wrench = np.zeros(6)
            return
        linear, angular = self._jac
        mujoco.mj_jacSite(self.model, self.data, linear, angular, self.tcp)
        columns = self._jac[:, :, self.dofs].reshape(6, 7)
        self.wrench = np.asarray(np.linalg.lstsq(columns.T, self.torques, rcond=None)[0])

    def _torques(self) -> Array:
        total = np.zeros(7)
        pairs = self.own[self.data.contact.geom]
        for i in np.flatnonzero(pairs[:, 0] != pairs[:, 1]):
            total += self._contact(int(i), second=bool(pairs[i, 1]))
        return total

    def _contact(self, index: int, *, second: bool) -> Array:
        """Return the joint torques [7, Nm] of a contact; its force acts on its second geom."""
        contact, force = self.data.contact[index], np.zeros(6)
        mujoco.mj_contactForce(self.model, self.data, index, force)
        axes = contact.frame.reshape(3, 3)
        sign = 1.0 if second else -1.0
        body = self.model.geom_bodyid[contact.geom[int(second)]]
        linear, angular = self._jac
        mujoco.mj_jac(self.model, self.data, linear, angular, contact.pos, body)
        all_joints = sign * ((force[:3] @ axes) @ linear + (force[3:] @ axes) @ angular)
        return np.asarray(all_joints[self.dofs])
