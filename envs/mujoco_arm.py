"""Simulated Franka as a `robot.Arm`: 4 Hz pose control on top of joint position servos."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.embodiment import FRANKA, HAND_OPEN, Embodiment
from envs.errors import UnreachableError
from envs.ik import REST_Q, FlangeIK
from envs.objects import BODY_NAMES, TIMESTEP_S
from robot.arm import ArmSpec, ArmState, Closing, Reason, Sent
from robot.constants import MIN_HELD_M, PERIOD_S
from robot.pose import apply_action, flange_to_tcp, gripper_command, matrix_to_euler, pose_diff

Array = NDArray[np.float64]

BOX_LOW_M, BOX_HIGH_M = FRANKA.flange_low_m, FRANKA.flange_high_m
"""Workspace of the flange with the Franka hand [m]."""
HELD_WITHIN_M = 0.04
"""An object whose middle is farther from the fingertips is not held [m]."""
MAX_LAG_M = 0.012
"""Actions accumulate on the commanded pose unless it is farther than this from the measured one
[m]."""


class MujocoArm(Closing):
    """An arm moved by DROID deltas; it reaches its joint targets within 60 % of a step.

    Args:
        model: Compiled scene.
        data: Simulation data, which the arm advances.
        embodiment: Gripper of the scene.
    """

    spec = ArmSpec(camera="left")

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, embodiment: Embodiment = FRANKA
    ) -> None:
        self.model, self.data, self.embodiment = model, data, embodiment
        self.spec = replace(type(self).spec, flange_to_tcp_m=embodiment.flange_to_tcp_m)
        self.box_m = embodiment.flange_low_m, embodiment.flange_high_m
        """Workspace of the flange, low and high [3, m]."""
        self.joints = 7 + len(embodiment.open_q)
        """Number of joints of arm and gripper."""
        self.ik = FlangeIK(model)
        self.flange = model.site("flange").id
        self.tcp = model.site("tcp").id
        self.object_bodies = [i for i in range(model.nbody) if model.body(i).name in BODY_NAMES]
        self.closed = False
        self.stroke_s = 0.0
        """Time of the gripper's full stroke [s]; 0 is as fast as its actuator can."""
        self.commanded = np.zeros(7)

    def reset(self, q: Array) -> None:
        """Set joint positions `q` [7, rad], at rest, with the gripper open."""
        hand = self.embodiment
        self.data.qpos[:7], self.data.qpos[7 : self.joints] = q, hand.open_q
        self.data.qvel[: self.joints] = 0.0
        self.data.ctrl[:7], self.data.ctrl[7] = q, hand.open_command
        self.closed = False
        mujoco.mj_forward(self.model, self.data)
        self.commanded = self._pose()

    @property
    def width_m(self) -> float:
        """Distance between the fingers [m]."""
        return self.embodiment.width_m(self.model, self.data)

    def _pose(self) -> Array:
        rotation = self.data.site_xmat[self.flange].reshape(3, 3)
        closed = np.clip(1.0 - self.width_m / self.embodiment.open_width_m, 0.0, 1.0)
        angles = matrix_to_euler(rotation)
        return np.concatenate([self.data.site_xpos[self.flange], angles, [closed]])

    def holding(self) -> bool:
        """Return whether an object keeps the closed fingers apart."""
        offsets = self.data.xpos[self.object_bodies] - self.data.site_xpos[self.tcp]
        gap = float(np.linalg.norm(offsets, axis=1).min())
        return self.closed and self.width_m > MIN_HELD_M and gap < HELD_WITHIN_M

    def _hand_goal(self) -> float:
        hand = self.embodiment
        return hand.closed_command if self.closed else hand.open_command

    @property
    def is_hand_moving(self) -> bool:
        """Whether the gripper's command is still on its way."""
        return bool(self.data.ctrl[7] != self._hand_goal())

    @property
    def yaw_rad(self) -> float:
        """Measured yaw of the gripper [rad], 0 where the fingers open along y."""
        return float(flange_to_tcp(self._pose())[5])

    def state(self) -> ArmState:
        """Read the arm."""
        return ArmState(
            time_s=float(self.data.time),
            state=self._pose(),
            q=self.data.qpos[:7].copy(),
            dq=self.data.qvel[:7].copy(),
            gripper_width_m=self.width_m,
            holding=self.holding(),
        )

    def send(self, action: ArrayLike) -> Sent:
        """Move by a DROID delta [7] (m, rad, gripper command) for one control step.

        Raises:
            UnreachableError: The action is not seven finite numbers.
        """
        asked = np.asarray(action, dtype=np.float64)
        if asked.shape != (7,) or not np.isfinite(asked).all():
            raise UnreachableError(f"Action {asked.tolist()} is not seven finite numbers")
        measured = self._pose()
        base = self.commanded
        if np.linalg.norm(base[:3] - measured[:3]) > MAX_LAG_M:
            # position only: otherwise a tilt forced by a contact would persist
            base = np.concatenate([measured[:3], base[3:]])
        target = apply_action(base, np.concatenate([asked[:6], [0.0]]))
        return self._go(base, target, gripper_command(float(asked[6])))

    def send_pose(self, target: ArrayLike) -> Sent:
        """Move the flange to an absolute pose [7]; closedness above 0.5 closes the gripper."""
        wanted = np.asarray(target, dtype=np.float64)
        return self._go(self.commanded, wanted.copy(), 1.0 if wanted[6] > 0.5 else -1.0)

    def _go(self, base: Array, target: Array, grip: float) -> Sent:
        reasons = []
        boxed = np.clip(target[:3], *self.box_m)
        if not np.allclose(boxed, target[:3]):
            reasons.append(Reason("box", "the flange stays in the simulated workspace"))
        target = np.concatenate([boxed, target[3:]])
        q = self.data.ctrl[:7].copy()
        try:
            goal = self.ik.solve(target, q)
        except UnreachableError as error:
            reasons.append(Reason("reach", str(error)))
            target, goal = base, q
        if grip:
            self.closed = grip > 0
        hand = self._hand_goal()
        hand_step = HAND_OPEN if self.stroke_s == 0 else HAND_OPEN * TIMESTEP_S / self.stroke_s
        steps = round(PERIOD_S / self.model.opt.timestep)
        ramp = 0.6 * steps
        for i in range(steps):
            self.data.ctrl[7] += np.clip(hand - self.data.ctrl[7], -hand_step, hand_step)
            self.data.ctrl[:7] = q + (goal - q) * min(1.0, (i + 1) / ramp)
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        target[6] = float(self.closed)
        self.commanded = target
        moved = np.append(pose_diff(base, target)[:6], grip)
        return Sent(action=moved, target=target, reasons=tuple(reasons))

    def snapshot(self) -> tuple[Array, bool, Array]:
        """Return the state that `restore` needs to reproduce this moment exactly."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        saved = np.zeros(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, saved, kind)
        return saved, self.closed, self.commanded.copy()

    def restore(self, snapshot: tuple[Array, bool, Array]) -> None:
        """Restore the state of a `snapshot`."""
        saved, self.closed, commanded = snapshot
        self.commanded = commanded.copy()
        mujoco.mj_setState(self.model, self.data, saved, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self.model, self.data)

    def stop(self) -> None:
        """Hold the current joint positions."""
        self.data.ctrl[:7] = self.data.qpos[:7]
        self.commanded = self._pose()

    def recover(self) -> None:
        """Do nothing: a simulated arm has no errors."""


def rest_joints(ik: FlangeIK, position_m: Array) -> Array:
    """Return joint positions [7, rad] with the tool straight down and the fingers along y.

    Args:
        ik: Inverse kinematics of the flange.
        position_m: Position of the flange [3, m].

    Raises:
        UnreachableError: No joint positions reach the pose.
    """
    return ik.solve(np.concatenate([position_m, TOOL_DOWN]), REST_Q, iterations=200)


TOOL_DOWN = np.array([np.pi, 0.0, -np.pi / 4])
"""Euler angles of a flange whose fingers point down and open along y [rad]."""
