"""Serves the scene as a Franka arm: franky-sim's libfranka protocol over our MuJoCo scene.

The server runs in a separate process. It adds the arm's gravity torques itself, so the scene's
gravity compensation and joint servos are disabled; the hand keeps its tuned actuator. While the arm
moves, simulated time waits for the client: on a busy machine the arm slows down, but never acts on
a late command.
"""

from __future__ import annotations

import copy
import select
import time
from multiprocessing.connection import Connection
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.embodiment import HAND_OPEN
from envs.objects import BODY_NAMES, SceneObject, place_wall
from envs.scene import build_model
from envs.twin.arm_server import JOINT_REFLEX, SILENCE, TableServer
from envs.twin.franky_internals import OpenRobot, OpenSimulator
from envs.twin.joints import Follower
from envs.twin.messages import CLIENT_S, HEAD, Answer, Reflex, Start, leave_signals_to_parent
from robot.constants import MAX_WIDTH_M

Array = NDArray[np.float64]

TICK_S = 0.001
SETTLE_MS = 200
"""Simulated time for the arm to come to rest at the start of an episode [ms]."""
HAND_SPEED_M_S = 0.1
"""Maximum speed of the fingers' distance [m/s]; the manufacturer states 50 mm/s per finger."""
STIFFNESS = (4000.0, 4000.0, 3000.0, 3000.0, 1500.0, 1500.0, 1500.0)
DAMPING = (150.0, 150.0, 110.0, 110.0, 50.0, 50.0, 50.0)
"""Joint stiffness [Nm/rad] and damping [Nm s/rad]. With the protocol server's own damping, which is
explicit at 1 kHz, the wrist oscillates on contact."""


class TableRobot(OpenRobot):
    """franky-sim's arm with the scene's hand and lag-free servos."""

    def attach(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Use this model and data, whose names have no prefix."""
        self.attach_to(model, data)
        self.hand = model.actuator("hand").id
        self.command_hand(1.0)
        self.hand_step = 0.0
        self.follower = Follower(model, TICK_S)
        self.wanted_q: Array | None = None

    def kinematics(self, q: Array) -> Any:
        """Return a copy of the TCP pose; the base class overwrites its own at the next call."""
        return super().kinematics(q).copy()

    def cartesian_position_control(
        self, target_pose: Array, target_elbow_config: Any, has_new_command: bool = True
    ) -> None:
        """Follow a pose [x, y, z, quaternion x, y, z, w]."""
        x = np.asarray(target_pose, dtype=float)
        self.wanted_q = self.follower.joints(x[:3], x[[6, 3, 4, 5]])
        # records the pose; its computed joints are not used
        super().cartesian_position_control(target_pose, target_elbow_config, has_new_command)

    def joint_position_control(self, target_q: Array, has_new_command: bool = True) -> None:
        """Follow joint positions [7, rad]."""
        if self.wanted_q is not None:
            target_q, self.wanted_q = self.wanted_q, None
        super().joint_position_control(target_q, has_new_command)

    def move_joints(self, target_q: Array) -> None:
        """Apply servo torques toward joint positions [7, rad], with feed-forward."""
        velocity, torques = self.follower.take(np.asarray(target_q))
        super().move_joints(target_q + (self.kv * velocity + torques) / self.kp)

    def command_hand(self, share: float) -> None:
        """Command the hand to a fraction of its width (0..1) and hold it there."""
        self.hand_goal = self.data.ctrl[self.hand] = HAND_OPEN * share

    def set_hand_goal(self, width: float, max_velocity: float, max_force: float) -> None:
        """Open or close the hand to a width.

        Args:
            width: Distance between the fingers [m].
            max_velocity: Speed of that distance [m/s]; each finger moves at half of it.
            max_force: Ignored; the hand's actuator has its own limit [N].
        """
        super().set_hand_goal(width, max_velocity, max_force)
        share = min(max(width / MAX_WIDTH_M, 0.0), 1.0)
        self.hand_goal = HAND_OPEN * (1.0 if share > 0.95 else share)
        self.hand_step = TICK_S * min(max_velocity, HAND_SPEED_M_S) / MAX_WIDTH_M * HAND_OPEN
        # start from the current width: an object may have stopped the fingers before their goal
        self.data.ctrl[self.hand] = HAND_OPEN * self.hand_width / MAX_WIDTH_M

    def before_step(self) -> None:
        """Move the hand's actuator toward its goal at the requested speed."""
        left = self.hand_goal - self.data.ctrl[self.hand]
        self.data.ctrl[self.hand] += min(max(left, -self.hand_step), self.hand_step)


class TableSimulator(OpenSimulator):
    """Simulator of one arm, a table and its objects.

    Args:
        shapes: Shapes of the objects.
        wall: Whether a wall stands on the table.
        image_size: Side of the images [px].
        shared: Shared memory: `HEAD` values, then the joint positions.
    """

    def __init__(self, shapes: tuple[str, ...], wall: bool, image_size: int, shared: Any) -> None:
        super().__init__(TableRobot(kp=STIFFNESS, kv=DAMPING))
        compiled = build_model(shapes[0], image_size, others=shapes[1:], wall=wall)
        self.model = copy.deepcopy(compiled)
        self.model.opt.timestep = TICK_S
        self.model.body_gravcomp[:] = 0.0
        for i in range(self.model.nu):
            if self.model.actuator(i).name != "hand":
                self.model.actuator_gainprm[i, :] = 0.0
                self.model.actuator_biasprm[i, :] = 0.0
        self.data = mujoco.MjData(self.model)
        names = zip(shapes, BODY_NAMES, strict=False)
        self.items = [SceneObject(self.model, self.data, s, name) for s, name in names]
        self.shared = shared

    def start_physics(self) -> None:
        """Put the arm at its initial joint positions."""
        for address, q in zip(range(7), self.robot.initial_q, strict=True):
            self.data.qpos[address] = q
        self.data.qpos[7:9] = MAX_WIDTH_M / 2
        self.robot.attach(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)

    def step_physics(self) -> None:
        """Advance the physics by a millisecond and publish the joint positions."""
        mujoco.mj_step(self.model, self.data)
        self.publish()

    def publish(self) -> None:
        """Write the joint positions to the shared memory."""
        self.shared[0] += 1
        self.shared[1] = self.data.time
        self.shared[HEAD : HEAD + self.model.nq] = self.data.qpos.tolist()
        self.shared[0] += 1

    def put(self, start: Start) -> None:
        """Begin an episode."""
        for item, scale in zip(self.items, start.scales, strict=True):
            item.resize(scale)
        if start.wall is not None:
            place_wall(self.model, start.wall)
        self.data.qpos[:] = start.qpos
        self.data.qvel[:] = 0.0
        self.data.qacc_warmstart[:] = 0.0
        self.data.qfrc_applied[:] = 0.0
        self.robot.follower.begin(start.qpos[:7])
        self.robot.command_hand(0.0 if start.closed else 1.0)
        mujoco.mj_forward(self.model, self.data)
        self.publish()


class LockstepClock:
    """Steps the physics only after the client has answered the last state.

    Without it, a client that gets no processor time for 100 ms finds the arm's clock advanced by
    100 ms and sends the position for that time: a jump, which the joints overshoot.

    Args:
        arm: The arm's protocol server.
        client_s: Maximum time to wait for a client [s].
    """

    def __init__(self, arm: Any, client_s: float) -> None:
        self.arm, self.client_s = arm, client_s
        self.answering = False
        """Whether the client has begun to command the current motion."""

    def wait(self) -> bool:
        """Wait for a command; return False if the client goes silent during a motion."""
        if not self.arm.current_motion_id:
            self.answering = False
            return True
        udp = self.arm.sockets[0]
        ready = select.select(self.arm.sockets, [], [], self.client_s if self.answering else 0.0)[0]
        if self.answering:
            return bool(ready)
        self.answering = udp in ready
        return True


def serve(
    shapes: tuple[str, ...],
    wall: bool,
    image_size: int,
    shared: Any,
    pipe: Connection,
    client_s: float = CLIENT_S,
) -> None:
    """Run the server process at 1 kHz until the pipe closes.

    Args:
        shapes: Shapes of the objects.
        wall: Whether a wall stands on the table.
        image_size: Side of the images [px]; the compiled model depends on it.
        shared: Shared memory: `HEAD` values, then the joint positions.
        pipe: Connection that receives orders and sends answers.
        client_s: Client silence after which a motion is aborted [s].
    """
    leave_signals_to_parent()
    try:
        simulator = TableSimulator(shapes, wall, image_size, shared)
        simulator.init()
        server = TableServer(simulator)
        server.init()
    except Exception as error:  # noqa: BLE001 - reported to the parent process
        pipe.send(Answer("failed", f"{type(error).__name__}: {error}"))
        return
    arm = server.arm
    pipe.send(Answer("done", arm.hostname))
    clock = LockstepClock(arm, client_s)
    due = time.perf_counter()
    while True:
        try:
            if pipe.poll():
                _obey(pipe.recv(), simulator, server)
                pipe.send(Answer("done"))
                due = time.perf_counter()
        except (EOFError, OSError):
            return
        if not clock.wait():
            arm.abort(SILENCE)
        server.run_once()
        due = max(due + TICK_S, time.perf_counter() - 0.05)
        time.sleep(max(0.0, due - time.perf_counter()))


def _obey(order: Start | Reflex, simulator: TableSimulator, server: TableServer) -> None:
    arm = server.arm
    if isinstance(order, Reflex):
        arm.abort(JOINT_REFLEX)
        return
    simulator.put(order)
    arm.reset_state()
    arm.clear()
    if arm.gripper_server is not None:
        arm.gripper_server.reset_state()
    for _ in range(SETTLE_MS):
        server.run_once()
