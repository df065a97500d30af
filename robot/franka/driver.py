"""The process that owns the connection to a Franka (libfranka through franky).

One loop publishes readings, starts motions asynchronously and polls the stop flag. The arm's
control loop keeps its rate whatever the planner process does.
"""

from __future__ import annotations

import contextlib
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.arm import ArmSpec, Reason
from robot.driver_messages import Answer, Order
from robot.driver_process import run_driver, text_of
from robot.franka.config import FrankaConfig
from robot.franka.connection import FrankaConnection
from robot.franka.gripper import GripperWorker
from robot.franka.motion import Pace, contact_reason, make_motion, speed_scale
from robot.pose import euler_to_matrix, matrix_to_euler
from robot.safety.shared_state import FUTURE_S, SharedArmState

Array = NDArray[np.float64]

TICK_S = 0.004
"""Period of the driver's loop [s]."""
NO_MOVE = 2e-4
"""A target closer to the current pose than this needs no motion (m, and rotation matrix
entries)."""
RETRIES = 3
"""Number of retries, each slower, when franky's planner fails."""
REST_RAD_S, REST_S = 0.02, 0.5
"""A finished motion is over once all joints are slower than this, or after this time."""


class Driver(FrankaConnection):
    """Executes the commands of the planner process.

    Args:
        config: Driver options.
        link: Memory shared with the planner process and the watchdog.
        pipe: Connection that receives orders and sends answers.
        guard_s: Maximum time since the watchdog's last check while the arm moves [s].
    """

    spec: ArmSpec | None = None
    """The planner process knows the conventions of a Franka."""

    def __init__(
        self, config: FrankaConfig, link: SharedArmState, pipe: Connection, guard_s: float
    ) -> None:
        super().__init__(config, link)
        self.pipe, self.guard_s = pipe, guard_s
        self.leaving = self.standing = False
        self.began = self.ended = 0.0
        self.retries, self.target, self.joints = 0, np.zeros(7), np.zeros(7)

    def go(self, target: Array, joints: Array) -> None:
        """Start a motion of the flange to an absolute pose and operate the gripper at its end.

        Fingers that close during the descent would grasp an object too high. With `preempt_s` a
        motion may never end, so motion and gripper start together.

        Args:
            target: Flange pose and closedness [7].
            joints: Joint positions [7, rad] that reach the pose.

        Raises:
            ValueError: A number is not finite.
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
            Exception: Any error that franky raises for the motion; it does not export all of them.
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
        except Exception:  # franky does not export all of its errors
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
        text = text_of(error)
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

    def connected() -> Driver:
        driver = Driver(config, link, pipe, guard_s)
        driver.connect()
        return driver

    run_driver(connected, link, pipe)
