"""The process that owns the connection to a Franka (libfranka through franky).

One loop publishes readings, starts motions asynchronously and looks at the stop flag between them,
so nothing that the planner's process does, or fails to do, reaches the arm's control loop.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.constants import MAX_WIDTH_M, MIN_HELD_M
from robot.franka.motion import Pace, contact_reason, make_motion, speed_scale
from robot.pose import euler_to_matrix, matrix_to_euler
from robot.safety.shared_state import Reading, SharedArmState

Array = NDArray[np.float64]

TICK_S = 0.004
NO_MOVE = 2e-4
"""Targets this near (m, and parts of a rotation matrix) need no motion."""
RETRIES = 3
REST_RAD_S, REST_S = 0.02, 0.5
"""A finished motion counts as over when no joint is faster than this, or after so long."""


@dataclass(frozen=True, kw_only=True)
class FrankaConfig:
    """How to drive a Franka."""

    address: str = "172.16.0.2"
    """Host name or IP of the arm's control box."""
    realtime: bool = True
    """False lets libfranka run on an ordinary kernel: for simulation only."""
    connect_timeout_s: float = 5.0
    dynamics: float = 0.2
    """Share of the arm's largest speed, acceleration and jerk that motions use (0..1)."""
    max_speed_m_s: float = 0.1
    """Of the end effector."""
    gripper_force_n: float = 20.0
    gripper_speed_m_s: float = 0.1
    max_torque_nm: float = 20.0
    max_force_n: float = 20.0
    """Collision thresholds: beyond them the arm's own reflex stops it."""
    contact_n: float = 10.0
    """A motion that meets more force at the hand than this ends where it is; 0: it goes on up to
    the collision thresholds."""
    slow_below_m: float = 0.04
    """Height of the end effector in the base frame under which the way down is slow."""
    slow_m_s: float = 0.03
    """Speed of that way."""
    joint_rad_s: float = 0.6
    """Mean speed that no joint goes over in a motion: a stretched arm moves slower for it."""
    motion_timeout_s: float = 5.0
    """A motion that takes longer is stopped."""
    preempt_s: float = 0.0
    """0: wait for each motion (as published). Else: give the next command after so long."""
    min_held_m: float = MIN_HELD_M
    """Closed fingers further apart than this hold something."""


class GripperWorker:
    """Opens and closes in a thread of its own; only transitions reach the gripper."""

    def __init__(self, gripper: Any, config: FrankaConfig) -> None:
        self.gripper, self.config = gripper, config
        self.width_m = float(gripper.width)
        self.closed = self.width_m < 0.5 * MAX_WIDTH_M
        self.problem = ""
        self._orders: queue.Queue[bool | None] = queue.Queue()
        self._busy = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """A transition is under way."""
        return self._busy.is_set()

    def order(self, *, close: bool) -> None:
        """Close or open; nothing happens when that is the last order already."""
        if close != self.closed:
            self.closed = close
            self._busy.set()
            self._orders.put(close)

    def end(self) -> None:
        """Let the thread finish; the connection closes with the last reference."""
        self._orders.put(None)
        self._thread.join(2.0)

    def _work(self) -> None:
        speed, force = self.config.gripper_speed_m_s, self.config.gripper_force_n
        while True:
            try:
                close = self._orders.get(timeout=0.05)
            except queue.Empty:
                with contextlib.suppress(Exception):
                    self.width_m = float(self.gripper.width)
                continue
            if close is None:
                return
            try:
                if close:
                    # a grasp "succeeds" on nothing with such tolerances: the width tells
                    done = self.gripper.grasp_async(
                        0.0, speed, force, epsilon_inner=1.0, epsilon_outer=1.0
                    )
                else:
                    done = self.gripper.move_async(MAX_WIDTH_M - 0.001, speed)
                while not done.wait(0.02):
                    self.width_m = float(self.gripper.width)
                done.get()
                self.width_m, self.problem = float(self.gripper.width), ""
            except Exception as error:  # noqa: BLE001 - the library's own kinds are not all exported
                self.problem = f"gripper: {error}"
            if self._orders.empty():
                self._busy.clear()


class Driver:
    """Carries out orders from a pipe: go, stop, recover, connect, disconnect, end."""

    def __init__(self, config: FrankaConfig, link: SharedArmState, pipe: Connection) -> None:
        self.config, self.link, self.pipe = config, link, pipe
        self.robot: Any = None
        self.gripper: GripperWorker | None = None
        self.moving, self.stopping = False, False
        self.began = self.ended = self.speed = 0.0
        self.waiting = self.standing = False
        self.retries, self.target, self.joints = 0, np.zeros(7), np.zeros(7)
        self.error = ""

    def connect(self) -> None:
        """Connect to arm and gripper."""
        import franky

        kernel = (
            franky.RealtimeConfig.Enforce
            if self.config.realtime
            else (franky.RealtimeConfig.Ignore)
        )
        self.robot = franky.Robot(self.config.address, realtime_config=kernel)
        self.robot.set_collision_behavior(self.config.max_torque_nm, self.config.max_force_n)
        # motions use a share of every limit, and stops all of it
        limit = self.robot.translation_velocity_limit
        limit.set(min(limit.max, self.config.max_speed_m_s / self.config.dynamics))
        self.gripper = GripperWorker(franky.Gripper(self.config.address), self.config)
        self.to_ee = np.asarray(self.robot.state.F_T_EE.matrix)
        self.moving = self.stopping = self.waiting = False
        self.error = ""
        self.publish()

    def disconnect(self) -> None:
        """Let go of the connection."""
        if self.gripper is not None:
            self.gripper.end()
        self.robot = self.gripper = None

    def publish(self) -> None:
        """Read the arm into the shared memory."""
        if self.robot is None or self.gripper is None:
            return
        state = self.robot.state
        flange = np.asarray(state.O_T_EE.matrix) @ np.linalg.inv(self.to_ee)
        width = self.gripper.width_m
        closed = float(np.clip(1.0 - width / MAX_WIDTH_M, 0.0, 1.0))
        pose = np.concatenate([flange[:3, 3], matrix_to_euler(flange[:3, :3]), [closed]])
        holding = self.gripper.closed and width > self.config.min_held_m and not self.gripper.busy
        self.speed = float(np.abs(state.dq).max())
        names = str(state.current_errors).strip("[]")
        self.link.write(
            Reading(
                clock_s=state.time.to_sec(),
                state=pose,
                q=np.asarray(state.q),
                dq=np.asarray(state.dq),
                width_m=width,
                holding=holding,
                moving=self.moving,
            ),
            self.error or names,
        )

    def go(self, target: Array, joints: Array) -> None:
        """Start a motion of the flange to an absolute pose [7]; the gripper acts where it ends.

        `joints` [7] are those of the pose.
        Fingers that close on the way down hold an object too high. Under preemption a motion may
        have no end, and both begin at once.
        """
        self.target, self.joints, self.retries = target, joints, RETRIES
        self.moving, self.waiting, self.began, self.ended = True, True, time.monotonic(), 0.0
        self.publish()
        self._start()
        if self.config.preempt_s:
            self._grip()

    def _grip(self) -> bool:
        """Bring the gripper to what the target says; whether it is still at it."""
        if self.gripper is None:
            return False
        self.gripper.order(close=bool(self.target[6] > 0.5))
        return self.gripper.busy

    def _start(self) -> None:
        state, ee, config = self.robot.state, self._ee_target(), self.config
        now = np.asarray(state.O_T_EE.matrix)
        self.standing = bool(np.abs(ee - now).max() < NO_MOVE) and not self.robot.is_in_control
        if self.standing:  # franky's planner fails on motions of no length
            return
        slow = min(1.0, config.slow_m_s / config.max_speed_m_s)
        turn = self.robot.rotation_velocity_limit.get() * config.dynamics
        joints = float(np.abs(self.joints - np.asarray(state.q)).max())
        eased = speed_scale(
            now,
            ee,
            speed_m_s=config.max_speed_m_s,
            turn_rad_s=turn,
            joints_rad=joints,
            joint_rad_s=config.joint_rad_s,
        )
        share = config.dynamics * eased * 0.9 ** (RETRIES - self.retries)
        pace = Pace(share, slow, config.slow_below_m)
        motion = make_motion(now, ee, pace, _force_n(state), config.contact_n)
        self.robot.move(motion, asynchronous=True)

    def _ee_target(self) -> Array:
        flange = np.eye(4)
        flange[:3, :3], flange[:3, 3] = euler_to_matrix(self.target[3:6]), self.target[:3]
        return flange @ self.to_ee

    def _report(self) -> None:
        """Answer for a motion that is over: what there is to say, and where contact ended it."""
        commanded = np.asarray(self.robot.state.O_T_EE_c.matrix)
        touched = (
            ""
            if self.standing
            else (contact_reason(self._ee_target(), commanded, _force_n(self.robot.state)))
        )
        if not touched:
            self.answer("done", self.gripper.problem if self.gripper else "")
            return
        flange = commanded @ np.linalg.inv(self.to_ee)
        pose = [*flange[:3, 3], *matrix_to_euler(flange[:3, :3]), self.target[6]]
        self.answer("done", touched, [float(x) for x in pose])

    def _finished(self) -> bool:
        """Whether the motion is over; one that could not be planned is tried again, slower.

        Raises:
            Exception: whatever the arm's library raises for the motion.
        """
        if self.standing:
            return True
        try:
            return bool(self.robot.poll_motion())
        except RuntimeError as error:
            if "planner failed" not in str(error) or not self.retries:
                raise
            self.retries -= 1
            self.robot.recover_from_errors()
            self._start()
            return False

    def _rests(self) -> bool:
        """Whether the joints have come to rest after a motion; servos lag behind their target."""
        self.ended = self.ended or time.monotonic()
        return self.speed < REST_RAD_S or time.monotonic() - self.ended > REST_S

    def watch(self) -> None:
        """Stop when asked; answer when a motion is over."""
        import franky

        if self.robot is None:
            return
        if self.link.stopped and not self.stopping:
            self.stopping = True
            if self.moving:
                self.robot.move(franky.CartesianStopMotion(), asynchronous=True)
        if not self.moving:
            return
        finished = self._finished()
        late = time.monotonic() - self.began
        if self.stopping:
            if finished:
                self.moving = False
                self.answer("stopped", self.link.stopped)
        elif finished and self._rests() and not self._grip():
            self.moving = False
            self._report()
        elif self.config.preempt_s and late >= self.config.preempt_s:
            self.answer("done", "")
        elif late > self.config.motion_timeout_s:
            what = "the gripper" if finished else "a motion"
            self.link.stop(f"{what} took over {self.config.motion_timeout_s} s")

    def answer(self, kind: str, text: str, *ended: list[float]) -> None:
        """Tell the planner's process, once a command; with the pose [7] of an early end."""
        if self.waiting:
            self.waiting = False
            self.pipe.send((kind, text, *ended))

    def obey(self, order: tuple[Any, ...]) -> bool:
        """Carry out an order; False ends the process."""
        kind = order[0]
        if kind == "end":
            return False
        if kind == "go":
            if self.link.stopped:
                self.pipe.send(("stopped", self.link.stopped))
            else:
                self.go(np.asarray(order[1], dtype=float), np.asarray(order[2], dtype=float))
            return True
        if kind == "disconnect":
            self.disconnect()
        elif kind == "connect" or self.robot is None:
            self.connect()
        elif kind == "recover":
            self._recover()
            self.stopping, self.error = False, ""
            self.publish()
        self.pipe.send(("ready", ""))
        return True

    def _recover(self) -> None:
        # on the connection that is there: an arm with errors may refuse a new one its settings
        try:
            self.robot.recover_from_errors()
        except Exception:
            if not self.error:
                raise
            self.disconnect()
            self.connect()
            self.robot.recover_from_errors()

    def fail(self, error: Exception) -> None:
        """Report a failure of the arm and wait for `recover`."""
        self.error = f"{type(error).__name__}: {error}"
        self.moving, self.waiting = False, False
        with contextlib.suppress(Exception):
            self.publish()
        self.pipe.send(("error", self.error))

    def run(self) -> None:
        """Loop until told to end or the planner's process is gone."""
        while True:
            try:
                if self.pipe.poll(TICK_S) and not self.obey(self.pipe.recv()):
                    break
                self.publish()
                self.watch()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self.link.stop("the planner's process is gone")
                self._stop_and_leave()
                return
            except Exception as error:  # noqa: BLE001 - whatever the arm's library raises
                self.fail(error)
        self.disconnect()

    def _stop_and_leave(self) -> None:
        until = time.monotonic() + 1.0
        with contextlib.suppress(Exception):
            while self.moving and time.monotonic() < until:
                self.waiting = False
                self.watch()
                self.publish()
                time.sleep(TICK_S)
        self.disconnect()


def _force_n(state: Any) -> float:
    """Size of the force that the arm estimates at its hand."""
    return float(np.linalg.norm(np.asarray(state.O_F_ext_hat_K)[:3]))


def serve(config: FrankaConfig, link: SharedArmState, pipe: Connection) -> None:
    """Entry of the driver's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the planner's process decides
    driver = Driver(config, link, pipe)
    try:
        driver.connect()
    except Exception as error:  # noqa: BLE001 - told to the planner's process
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
        return
    pipe.send(("ready", ""))
    driver.run()
