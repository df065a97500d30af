"""The process that owns the connection to a Franka (libfranka through franky).

One loop publishes readings, starts motions asynchronously and polls the stop flag. The arm's
control loop keeps its rate whatever the planner process does.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.arm import Reason
from robot.constants import MAX_WIDTH_M
from robot.driver_messages import Answer, Order
from robot.franka.config import FrankaConfig
from robot.franka.gripper import GripperWorker
from robot.franka.motion import Pace, contact_reason, make_motion, speed_scale
from robot.grippers.gripper import HandOf
from robot.pose import euler_to_matrix, matrix_to_euler
from robot.safety.shared_state import FUTURE_S, Reading, SharedArmState

Array = NDArray[np.float64]

TICK_S = 0.004
NO_MOVE = 2e-4
"""A target closer to the current pose than this needs no motion (m, and rotation matrix
entries)."""
RETRIES = 3
"""Number of retries, each slower, when franky's planner fails."""
STALLS = "Timeout", "Net Exception"
"""Words in errors of a connection whose other end does not answer in time."""
REST_RAD_S, REST_S = 0.02, 0.5
"""A finished motion is over once all joints are slower than this, or after this time."""


class Driver:
    """Executes the commands of the planner process.

    Args:
        config: Driver options.
        link: Memory shared with the planner process and the watchdog.
        pipe: Connection that receives orders and sends answers.
        guard_s: Maximum time since the watchdog's last check while the arm moves [s].
    """

    def __init__(
        self, config: FrankaConfig, link: SharedArmState, pipe: Connection, guard_s: float
    ) -> None:
        self.config, self.link, self.pipe, self.guard_s = config, link, pipe, guard_s
        self.leaving = False
        self.robot: Any = None
        self.gripper: GripperWorker | None = None
        self.moving, self.stopping = False, False
        self.began = self.ended = self.speed = 0.0
        self.waiting = self.standing = self.cut_off = False
        self.clock = self.clock_offset = 0.0
        self.retries, self.target, self.joints = 0, np.zeros(7), np.zeros(7)
        self.error = ""

    def connect(self) -> None:
        """Connect to the arm and its gripper."""
        self._open()
        self.gripper = GripperWorker(self._hand, self.config)
        self.moving = self.stopping = self.waiting = self.cut_off = False
        self.error = ""
        self.publish()

    def _hand(self) -> Any:
        """Connect to the Franka hand, or to the gripper in its place."""
        if self.config.make_gripper is not None:
            return HandOf(self.config.make_gripper())
        import franky

        return franky.Gripper(self.config.address)

    def _open(self) -> None:
        """Connect to the arm and pass it the limits."""
        import franky

        kernel = franky.RealtimeConfig
        wanted = kernel.Enforce if self.config.realtime else kernel.Ignore
        self.robot = franky.Robot(self.config.address, realtime_config=wanted)
        self.robot.set_collision_behavior(self.config.max_torque_nm, self.config.max_force_n)
        # motions use a share of every limit, but stops use all of it
        limit = self.robot.translation_velocity_limit
        limit.set(min(limit.max, self.config.max_speed_m_s / self.config.dynamics))
        limit = self.robot.rotation_velocity_limit
        limit.set(min(limit.max, self.config.max_turn_rad_s / self.config.dynamics))
        self.to_ee = np.asarray(self.robot.state.F_T_EE.matrix)

    def _reopen(self, error: Exception) -> bool:
        """Connect again after a stall of a simulated arm; return False if that is not the case.

        libfranka gives up after a second of the host's time without a packet, and the server may
        wait for a command at the same time.
        """
        if self.config.clock != "arm" or not any(word in str(error) for word in STALLS):
            return False
        self.robot = None  # closes the connection, which ends the motion
        self.cut_off = self.moving
        self._open()
        return True

    def _clock_s(self, state: Any) -> float:
        """Return the arm's clock, which restarts on a new connection, as one that never does."""
        clock = float(state.time.to_sec())
        if clock < self.clock:
            self.clock_offset += self.clock
        self.clock = clock
        return self.clock_offset + clock

    def _patiently(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if not self._reopen(error):
                raise
            act()

    def disconnect(self) -> None:
        """Release the connection."""
        if self.gripper is not None:
            self.gripper.end()
        self.robot = self.gripper = None

    def publish(self) -> None:
        """Write a reading of the arm to shared memory."""
        if self.robot is None or self.gripper is None:
            return
        state = self.robot.state
        flange = np.asarray(state.O_T_EE.matrix) @ np.linalg.inv(self.to_ee)
        width = self.gripper.width_m
        closed = float(np.clip(1.0 - width / MAX_WIDTH_M, 0.0, 1.0))
        pose = np.concatenate([flange[:3, 3], matrix_to_euler(flange[:3, :3]), [closed]])
        holding = self.gripper.closed and width > self.config.min_held_m and not self.gripper.busy
        self.speed = float(np.abs(state.dq).max())
        if self.moving and not np.isfinite([*pose, *state.q, *state.dq]).all():
            self.link.stop("the arm's state is not finite")
        if self.moving and self.gripper.lost:
            self.link.stop(f"gripper: {self.gripper.lost}")
        names = str(state.current_errors).strip("[]")
        self.link.write(
            Reading(
                clock_s=self._clock_s(state),
                state=pose,
                q=np.asarray(state.q),
                dq=np.asarray(state.dq),
                width_m=width,
                holding=holding,
                moving=self.moving,
            ),
            self.error or self.gripper.lost or names,
        )

    def go(self, target: Array, joints: Array) -> None:
        """Start a motion of the flange to an absolute pose and operate the gripper at its end.

        Fingers that close during the descent would grasp an object too high. With `preempt_s` a
        motion may never end, so motion and gripper start together.

        Args:
            target: Flange pose and closedness [7].
            joints: Joint positions [7, rad] that reach the pose.
        """
        if not (np.isfinite(target).all() and np.isfinite(joints).all()):
            raise ValueError(f"target {target} or joints {joints} are not finite")
        self.target, self.joints, self.retries = target, joints, RETRIES
        self.moving, self.waiting, self.stopping, self.ended = True, True, False, 0.0
        self._patiently(self.publish)
        self.began = self.link.now_s
        self._patiently(self._start)
        if self.config.preempt_s:
            self._operate_gripper()

    def _operate_gripper(self) -> bool:
        """Open or close the gripper as the target says; return whether it is still busy."""
        if self.gripper is None:
            return False
        self.gripper.order(close=bool(self.target[6] > 0.5))
        return self.gripper.busy

    def _start(self) -> None:
        self.cut_off = False
        state, ee, config = self.robot.state, self._ee_target(), self.config
        now = np.asarray(state.O_T_EE.matrix)
        if not np.isfinite([*now.ravel(), *state.q]).all():
            raise ValueError("the arm's state is not finite")
        self.standing = bool(np.abs(ee - now).max() < NO_MOVE) and not self.robot.is_in_control
        if self.standing:  # franky's planner fails on zero-length motions
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
        """Report a finished motion: its deviation from the order, and where contact ended it."""
        commanded = np.asarray(self.robot.state.O_T_EE_c.matrix)
        touched: Reason | None = None
        if not self.standing:
            touched = contact_reason(self._ee_target(), commanded, _force_n(self.robot.state))
        if touched is None:
            problem = self.gripper.problem if self.gripper else None
            self.answer(Answer("done", reasons=() if problem is None else (problem,)))
            return
        flange = commanded @ np.linalg.inv(self.to_ee)
        angles = matrix_to_euler(flange[:3, :3])
        ended = np.concatenate([flange[:3, 3], angles, self.target[6:]])
        self.answer(Answer("done", reasons=(touched,), ended=ended))

    def _finished(self) -> bool:
        """Return whether the motion is over; start it again if it was not planned or has stalled.

        Raises:
            Exception: Any error that franky raises for the motion.
        """
        if self.standing:
            return True
        try:
            if not self.cut_off:
                return bool(self.robot.poll_motion())
        except Exception as error:
            if "planner failed" in str(error) and self.retries:
                self.retries -= 1
                self.robot.recover_from_errors()
            elif not self._reopen(error):
                raise
        if self.link.is_stopped:  # the arm is at rest
            self.stopping = self.standing = True
            return True
        self._start()
        return False

    def _rests(self) -> bool:
        """Return whether the joints are at rest after a motion; servos lag behind their target."""
        self.ended = self.ended or self.link.now_s
        return self.speed < REST_RAD_S or not self.link.now_s - self.ended <= REST_S

    def watch(self) -> None:
        """Stop the arm if the stop flag is set; report a motion that has ended."""
        if self.robot is None:
            return
        if self.moving and not self.link.is_stopped:
            self._watch_the_watchdog()
        if self.link.is_stopped and not self.stopping:
            self.stopping = True
            if self.moving:
                self._halt()
        if self.moving:
            self._follow_the_motion()

    def _follow_the_motion(self) -> None:
        """Report a motion that has ended; stop one that takes too long."""
        finished = self._finished()
        late = self.link.now_s - self.began
        if self.stopping:
            if finished:
                self.moving = False
                self.answer(Answer("stopped", self.link.stopped))
        elif finished and self._rests() and not self._operate_gripper():
            self.moving = False
            self._report()
        elif self.config.preempt_s and not late < self.config.preempt_s:
            self.answer(Answer("done"))
        elif not -FUTURE_S <= late <= self.config.motion_timeout_s:
            what = "the gripper" if finished else "a motion"
            self.link.stop(f"{what} took over {self.config.motion_timeout_s} s")

    def _watch_the_watchdog(self) -> None:
        age = self.link.guard_age_s
        if not -FUTURE_S <= age <= self.guard_s:
            text = f"the watchdog's last check is {age:.2f} s old, at most {self.guard_s}"
            self.link.stop(f"{text} while the arm moves")

    def _halt(self) -> None:
        """Begin to stop the current motion."""
        import franky

        self.robot.move(franky.CartesianStopMotion(), asynchronous=True)

    def answer(self, answer: Answer) -> None:
        """Send an answer to the planner process, once per command."""
        if self.waiting:
            self.waiting = False
            self.pipe.send(answer)

    def obey(self, order: Order) -> bool:
        """Execute an order; return False if it ends the process."""
        if order.kind == "end":
            return False
        if order.kind == "go":
            if self.link.is_stopped:
                self.pipe.send(Answer("stopped", self.link.stopped))
            else:
                assert order.target is not None
                assert order.joints is not None
                self.go(order.target, order.joints)
            return True
        if order.kind == "disconnect":
            self.disconnect()
        elif order.kind == "connect" or self.robot is None:
            self.connect()
        elif order.kind == "recover":
            self._recover()
            self.stopping, self.error = False, ""
            self.publish()
        self.pipe.send(Answer("ready"))
        return True

    def _recover(self) -> None:
        if self.gripper is not None and self.gripper.lost:
            self.gripper.end()
            self.gripper = GripperWorker(self._hand, self.config)
        # on the current connection: an arm with errors may refuse settings on a new one
        try:
            self.robot.recover_from_errors()
        except Exception:
            if not self.error:
                raise
            self.disconnect()
            self.connect()
            self.robot.recover_from_errors()

    def fail(self, error: Exception, *, ordered: bool) -> None:
        """Report a failure of the arm and wait for `recover`.

        Args:
            error: The failure.
            ordered: Whether an order failed, which is answered every time; a failure that repeats
                between orders is reported once.
        """
        text = f"{type(error).__name__}: {error}"
        report, self.error = ordered or self.waiting or text != self.error, text
        if self.moving:  # the error may not be the arm's, which then would continue
            with contextlib.suppress(Exception):
                if self.robot.is_in_control:
                    self._halt()
        self.moving, self.waiting = False, False
        try:
            self.publish()
        except Exception:  # noqa: BLE001 - franky does not export all of its errors
            self.link.rest(self.error)
            self.disconnect()  # the connection is lost; `recover` makes a new one
        if report:
            self.pipe.send(Answer("failed", self.error))

    def run(self) -> None:
        """Loop until an order ends the process or the planner process has exited."""
        while not self.leaving:
            ordered = False
            try:
                ordered = self.pipe.poll(TICK_S)
                if ordered and not self.obey(self.pipe.recv()):
                    self.disconnect()
                    return
                ordered = False
                self._patiently(self.publish)
                self.watch()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self.link.stop("the planner's process is gone")
                self.leaving = True
            except Exception as error:  # noqa: BLE001 - franky does not export all of its errors
                self.fail(error, ordered=ordered)
        self._stop_and_leave()

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
    """Return the magnitude of the arm's force estimate at the hand [N]."""
    return float(np.linalg.norm(np.asarray(state.O_F_ext_hat_K)[:3]))


def serve(
    config: FrankaConfig, link: SharedArmState, pipe: Connection, guard_s: float = 0.2
) -> None:
    """Run the driver process.

    Args:
        config: Driver options.
        link: Memory shared with the planner process and the watchdog.
        pipe: Connection that receives orders and sends answers.
        guard_s: Maximum time since the watchdog's last check while the arm moves [s].
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the planner process decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    pipe.send(Answer("started"))  # the connection timeout starts here
    driver = Driver(config, link, pipe, guard_s)
    try:
        driver.connect()
    except Exception as error:  # noqa: BLE001 - reported to the planner's process
        pipe.send(Answer("failed", f"{type(error).__name__}: {error}"))
        return

    def leave(*_: object) -> None:
        link.stop("the driver's process was asked to terminate")
        driver.leaving = True

    signal.signal(signal.SIGTERM, leave)
    pipe.send(Answer("ready"))
    driver.run()
