"""The process that runs an arm of a user's class.

One loop publishes readings, polls the stop flag and starts motions in a thread; a motion that is
running is ended by the arm's own `stop`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from robot.arm import Arm, ArmSpec, ArmState, Sent
from robot.driver_messages import Answer, Order
from robot.driver_process import run_driver, text_of
from robot.errors import ArmError, UnreachableError
from robot.hosted.config import HostedConfig
from robot.safety.shared_state import FUTURE_S, Reading, SharedArmState

Array = NDArray[np.float64]
TICK_S = 0.004
"""Period of the driver's loop [s]."""
METHODS = ("state", "send_pose", "stop", "recover", "close")
"""Methods of `robot.arm.Arm` that the driver calls."""
JOINTS = 7
"""Joint positions that shared memory holds; those of an arm with fewer are padded with zeros."""


class Motion(threading.Thread):
    """A `send_pose` of the arm in progress."""

    def __init__(self, arm: Arm, target: Array) -> None:
        super().__init__(daemon=True)
        self.arm, self.target = arm, target
        self.sent: Sent | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Move the arm."""
        try:
            self.sent = self.arm.send_pose(self.target)
        except Exception as error:  # noqa: BLE001 - a user's arm can raise anything
            self.error = error


class HostedDriver:
    """Executes the commands of the planner process with a user's arm.

    Args:
        make: Connects to the arm.
        config: Time limits.
        link: Memory shared with the planner process and the watchdog.
        pipe: Connection that receives orders and sends answers.
        guard_s: Maximum time since the watchdog's last check while the arm moves [s].
    """

    def __init__(
        self,
        make: Callable[[], Arm],
        config: HostedConfig,
        link: SharedArmState,
        pipe: Connection,
        guard_s: float,
    ) -> None:
        self.config, self.link, self.pipe, self.guard_s = config, link, pipe, guard_s
        self.motion: Motion | None = None
        self.leaving = self.stopping = False
        self.began, self.error = 0.0, ""
        self.arm = make()
        self.spec = _checked_spec(self.arm)
        self.publish()

    def publish(self) -> None:
        """Write a reading of the arm to shared memory."""
        state = self.arm.state()
        _check_state(state)
        errors = [self.error, *state.errors] if self.error else list(state.errors)
        reading = Reading(
            clock_s=float(state.time_s),
            state=np.asarray(state.state, dtype=np.float64),
            q=_padded(state.q),
            dq=_padded(state.dq),
            width_m=float(state.gripper_width_m),
            holding=bool(state.holding),
            moving=self.motion is not None,
        )
        self.link.write(reading, "; ".join(errors))
        if self.motion is not None and not np.isfinite(reading.state).all():
            self.link.stop("the arm's state is not finite")

    def watch(self) -> None:
        """Stop the arm if the stop flag is set; report a motion that has ended."""
        if self.motion is not None and not self.link.is_stopped:
            self._watch_the_time()
        if self.link.is_stopped and not self.stopping:
            self.stopping = True
            self.arm.stop()
        if self.motion is not None and not self.motion.is_alive():
            self._report(self.motion)

    def _watch_the_time(self) -> None:
        age, late = self.link.guard_age_s, self.link.now_s - self.began
        if not -FUTURE_S <= age <= self.guard_s:
            self.link.stop(
                f"the watchdog's last check is {age:.2f} s old, at most {self.guard_s} while the "
                "arm moves"
            )
        elif not -FUTURE_S <= late <= self.config.motion_timeout_s:
            self.link.stop(f"a motion took over {self.config.motion_timeout_s} s")

    def _report(self, motion: Motion) -> None:
        """Answer the order of a motion that has ended."""
        self.motion = None
        if motion.error is not None and not isinstance(motion.error, UnreachableError):
            self.error = text_of(motion.error)  # lasts until `recover`
        try:
            self.publish()  # the arm no longer moves
        except Exception as error:  # noqa: BLE001 - a user's arm can raise anything
            self.error = text_of(error)
            self.link.rest(self.error)
        if self.link.is_stopped:
            self.pipe.send(Answer("stopped", self.link.stopped))
        elif motion.error is not None or self.error:
            text = self.error if motion.error is None else text_of(motion.error)
            self.pipe.send(Answer("failed", text))
        else:
            sent = motion.sent
            reasons = () if sent is None else sent.reasons
            self.pipe.send(
                Answer("done", reasons=reasons, ended=None if sent is None else sent.ended)
            )

    def obey(self, order: Order) -> bool:
        """Execute an order; return False if it ends the process."""
        if order.kind == "end":
            return False
        if order.kind == "go":
            self._go(order)
            return True
        if order.kind == "recover":
            self.arm.recover()
            self.stopping, self.error = False, ""
            self.publish()
        self.pipe.send(Answer("ready"))
        return True

    def _go(self, order: Order) -> None:
        if self.link.is_stopped:
            self.pipe.send(Answer("stopped", self.link.stopped))
            return
        assert order.target is not None
        self.stopping, self.began = False, self.link.now_s
        self.motion = Motion(self.arm, order.target)
        self.publish()

    def fail(self, error: Exception, *, ordered: bool) -> None:
        """Report a failure of the arm's own methods, and stop a motion in progress."""
        text = text_of(error)
        known, self.error = text == self.error, text
        if self.motion is not None:
            self.link.stop(f"the arm failed ({text})")
            with contextlib.suppress(Exception):
                self.arm.stop()
            self.motion.join(TICK_S)
        if self.motion is None or not self.motion.is_alive():
            waited_for, self.motion = self.motion is not None, None
            self.link.rest(text)
            if ordered or waited_for or not known:
                self.pipe.send(Answer("failed", text))

    def run(self) -> None:
        """Loop until an order ends the process or the planner process has exited."""
        while not self.leaving:
            ordered = False
            try:
                ordered = self.pipe.poll(TICK_S)
                if ordered and not self.obey(self.pipe.recv()):
                    break
                ordered = False
                self.publish()
                self.watch()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self.link.stop("the planner's process is gone")
                break
            except Exception as error:  # noqa: BLE001 - a user's arm can raise anything
                self.fail(error, ordered=ordered)
        self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(Exception):
            if self.motion is not None:
                self.arm.stop()
                self.motion.join(1.0)
        self.arm.close()


def _checked_spec(arm: Arm) -> ArmSpec:
    """Return the conventions of an arm.

    Raises:
        ArmError: It lacks a method, or declares other conventions than a drive can use.
    """
    missing = [name for name in METHODS if not callable(getattr(arm, name, None))]
    if missing:
        raise ArmError(f"The arm {type(arm).__name__} lacks methods: {', '.join(missing)}")
    spec = getattr(arm, "spec", None)
    if not isinstance(spec, ArmSpec):
        raise ArmError(f"The arm's spec is {spec!r}; allowed: a robot.arm.ArmSpec")
    if (spec.state_dim, spec.action_dim) != (7, 7):
        raise ArmError(
            f"The arm has states of {spec.state_dim} and actions of {spec.action_dim} numbers; "
            "allowed: 7 and 7, a pose and its change"
        )
    return spec


def _check_state(state: ArmState) -> None:
    shape = np.shape(state.state)
    if shape != (7,):
        raise ArmError(f"The arm's state has shape {shape}; allowed: 7 numbers, a pose")


def _padded(values: Array) -> Array:
    """Return joint values [7] of an arm with at most seven joints."""
    found = np.asarray(values, dtype=np.float64).ravel()
    if len(found) > JOINTS:
        raise ArmError(f"The arm has {len(found)} joints; allowed: at most {JOINTS}")
    return np.pad(found, (0, JOINTS - len(found)))


def serve(
    make: Callable[[], Arm],
    config: HostedConfig,
    link: SharedArmState,
    pipe: Connection,
    guard_s: float = 0.2,
) -> None:
    """Run the driver process; see `HostedDriver`."""
    run_driver(lambda: HostedDriver(make, config, link, pipe, guard_s), link, pipe)
