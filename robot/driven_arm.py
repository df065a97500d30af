"""An arm whose connection belongs to a driver process, watched by a watchdog process.

The planner process sends orders to the driver and heartbeats to the watchdog. The driver polls a
stop flag in shared memory; the watchdog sets it when planner, camera or arm fall silent, and kills
a driver that does not stop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import ArmSpec, ArmState, Closing, Sent
from robot.driver_messages import UNREACHABLE, Answer, DriverConfig, Order
from robot.errors import ArmError, ReflexError, UnreachableError
from robot.pose import pose_after, pose_diff
from robot.safety.process_handle import ProcessHandle
from robot.safety.shared_state import FUTURE_S, SharedArmState
from robot.safety.watchdog import WatchdogConfig, watch

Array = NDArray[np.float64]

START_S = 120.0
"""Timeout for a process to start [s]; a busy machine may take most of a minute."""
GUARD_S = 1.0
"""Commands are refused if the watchdog has been silent for this long by the ages' clock [s]."""
STOP_S = 1.5
"""Longest time that `stop` waits for the arm to come to rest [s]."""
FRESH_S = 0.1
"""A simulated arm whose time waits is waited for until its reading is newer than this [s]."""


Serve = Callable[..., None]
"""Main function of a driver process: it receives the configuration, the shared memory, the pipe
and the maximum time since the watchdog's last check [s]."""


class DrivenArm(Closing, ABC):
    """Sends commands to a driver process; a watchdog process monitors both.

    Args:
        config: Driver options.
        watchdog: Maximum ages of heartbeat, frame and state while the arm moves.
        serve: Main function of the driver process.

    Raises:
        ArmError: The connection failed or timed out; the message says what to check.
    """

    fixes: ClassVar[Mapping[str, str]] = {}
    """Fix to suggest when a failure's text contains the key."""
    collisions: ClassVar[tuple[str, ...]] = ()
    """Words in the text of a failure that a collision has caused."""

    def __init__(self, config: DriverConfig, watchdog: WatchdogConfig | None, serve: Serve) -> None:
        self.config: DriverConfig = config
        self._ages = watchdog or WatchdogConfig()
        self._answered = Answer("started")
        """Answer of the driver to the connection."""
        context = multiprocessing.get_context("spawn")
        self.link = SharedArmState(context, config.clock)
        theirs: Connection
        self._pipe, theirs = context.Pipe()
        self._driver = context.Process(
            target=serve, args=(config, self.link, theirs, self._ages.planner_s), daemon=True
        )
        self._watchdog: BaseProcess | None = None
        self._driver.start()
        theirs.close()
        try:
            self._start_watchdog(context)
        except BaseException:
            self.close()
            raise
        self.closed = self._is_closed()

    def _start_watchdog(self, context: SpawnContext) -> None:
        """Wait until the driver has connected, then start the watchdog."""
        driver = ProcessHandle(int(self._driver.pid or 0))
        try:
            self._wait(START_S, "start the driver's process", beat=False)
            self._answered = self._wait(
                self.config.connect_timeout_s, "connect to the arm", beat=False
            )
            self._watchdog = context.Process(
                target=watch, args=(self.link, self._ages, driver, os.getpid()), daemon=True
            )
            self._watchdog.start()
        finally:
            driver.close()
        until = time.monotonic() + START_S
        while not self._is_guarded():
            if time.monotonic() > until or not self._watchdog.is_alive():
                raise ArmError(f"The watchdog's process did not start: {self._renew}")
            time.sleep(0.01)

    def _wait_for_the_watchdog(self) -> None:
        """On a simulated arm whose time waits, wait for a watchdog that lacks processor time."""
        until = time.monotonic() + self.config.connect_timeout_s
        while (
            self.config.clock == "arm"
            and not self._is_guarded()
            and self._watchdog is not None
            and self._watchdog.is_alive()
            and time.monotonic() <= until
        ):
            time.sleep(0.001)

    def _is_guarded(self) -> bool:
        return self.link.guards > 0 and -FUTURE_S <= self.link.guard_age_s <= GUARD_S

    def _is_closed(self) -> bool:
        return not self.state().state[6] <= 0.5

    @property
    @abstractmethod
    def spec(self) -> ArmSpec:
        """State and action conventions of the arm."""

    @abstractmethod
    def joints_for(self, target: Array, q: Array) -> Array:
        """Return joint positions [7, rad] that reach a pose [7], near `q`; sent with the order.

        Raises:
            UnreachableError: No joint positions reach the target; nothing was sent.
        """

    @property
    def _renew(self) -> str:
        return f"create a new {type(self).__name__}"

    @property
    def driver_pid(self) -> int:
        """PID of the process that owns the connection."""
        return int(self._driver.pid or 0)

    @property
    def watchdog_pid(self) -> int:
        """PID of the watchdog's process; 0 before it has started."""
        return int(self._watchdog.pid or 0) if self._watchdog is not None else 0

    def state(self) -> ArmState:
        """Return the newest reading; its age counts from the last change of the arm's clock.

        A simulated arm whose time waits is waited for until its reading is fresh.
        """
        state, until = self._read(), time.monotonic() + self.config.connect_timeout_s
        while self.config.clock == "arm" and not (state.age_s <= FRESH_S or state.errors):
            if not time.monotonic() <= until:
                break
            time.sleep(0.001)
            state = self._read()
        return state

    def _read(self) -> ArmState:
        state = self.link.read()
        errors = list(state.errors)
        if not self._driver.is_alive():
            errors.append(f"the driver's process ended: {self._renew}")
        elif self.link.is_stopped:
            errors.append(self.link.stopped)
        return dataclasses.replace(state, errors=tuple(errors))

    def send(self, action: ArrayLike) -> Sent:
        """Move by a DROID delta [7]; gripper above 0.15 closes, below -0.15 opens, else keeps.

        Raises:
            ReflexError: The arm has detected a collision.
            ArmError: The action is not seven finite numbers, the arm is stopped, or the connection
                is lost.
            UnreachableError: No joint positions reach the target; nothing was sent.
        """
        asked = _seven_numbers("Action", action)
        return self.send_pose(pose_after(self.state().state, asked, self.closed))

    def send_pose(self, target: ArrayLike) -> Sent:
        """Move the flange to an absolute pose [7]; closedness above 0.5 closes the gripper.

        Raises:
            ReflexError: The arm has detected a collision.
            ArmError: The command is refused, the watchdog stopped the arm, or the connection is
                lost.
            UnreachableError: No joint positions reach the target within the joint margin; nothing
                was sent.
        """
        wanted = _seven_numbers("Target", target)
        now = self.state()
        if now.errors:
            raise ArmError(
                f"The arm is stopped ({'; '.join(now.errors)}): inspect it, then recover"
            )
        self._wait_for_the_watchdog()
        if not self._is_guarded():
            self.link.stop("the watchdog's process does not run")
            raise ArmError(f"The watchdog's process does not run: {self._renew}")
        joints = self.joints_for(wanted, now.q)
        self.link.beat()
        self._send(Order("go", wanted, joints))
        answer = self._wait(self.config.motion_timeout_s + 3.0, "carry out the motion")
        self.closed = bool(wanted[6] > 0.5)
        action = pose_diff(now.state, wanted)
        return Sent(action=action, target=wanted, reasons=answer.reasons, ended=answer.ended)

    def stop(self) -> None:
        """Stop immediately; only `recover` lifts the stop."""
        self.link.stop("stop was called")
        is_late = self._timer(STOP_S)
        while self.link.moving and self._driver.is_alive() and not is_late():
            time.sleep(0.005)

    def recover(self) -> None:
        """Clear errors and the stop; call it only after a person has inspected the arm.

        Raises:
            ArmError: The arm does not recover or is still moving; the stop stays in force.
        """
        if self.link.moving:
            self.stop()
        if self.link.moving or not self._driver.is_alive():
            what = "still moves" if self._driver.is_alive() else "has lost its driver's process"
            raise ArmError(f"The arm {what}: inspect it, then {self._renew}")
        seen = self.link.newest_stop
        self._drain()
        self._send(Order("recover"))
        self._wait(self.config.connect_timeout_s, "recover", beat=False)
        self.link.clear(seen)

    def close(self) -> None:
        """Stop, release the arm and end both processes."""
        if self._driver.is_alive():
            if self.link.moving:
                self.stop()
            with contextlib.suppress(OSError):
                self._pipe.send(Order("end"))
            self._driver.join(3.0)
        for process in (self._driver, self._watchdog):
            if process is not None and process.is_alive():
                process.kill()
                process.join()
        self._pipe.close()

    def _send(self, order: Order) -> None:
        try:
            self._pipe.send(order)
        except OSError as error:
            raise ArmError(f"The driver's process ended: {self._renew}") from error

    def _drain(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while self._pipe.poll():
                self._pipe.recv()

    def _timer(self, timeout_s: float) -> Callable[[], bool]:
        """Return a function that tells whether a time limit has passed.

        On a simulated arm whose time waits, the limit is the arm's time; an arm whose clock has
        not changed for `connect_timeout_s` hangs.
        """
        began = self.link.now_s

        def is_late() -> bool:
            if not self.link.now_s - began <= timeout_s:
                return True
            return self.config.clock == "arm" and not (
                self.link.state_age_s <= self.config.connect_timeout_s
            )

        return is_late

    def _wait(self, timeout_s: float, what: str, *, beat: bool = True) -> Answer:
        """Wait for the driver's answer, sending heartbeats while the arm may move."""
        until = time.monotonic() + timeout_s
        is_late = self._timer(timeout_s) if beat else lambda: not time.monotonic() <= until
        while not is_late():
            if beat:
                self.link.beat()
            try:
                if self._pipe.poll(0.01):
                    return self._checked(self._pipe.recv(), what)
            except (EOFError, OSError) as error:
                stopped = self.link.stopped
                raise ArmError(
                    f"The driver's process ended{f' ({stopped})' if stopped else ''}: inspect the "
                    f"arm, then {self._renew}"
                ) from error
        if self._watchdog is None:  # not connected yet: leave no process behind
            self._driver.kill()
        raise ArmError(
            f"Could not {what} within {timeout_s:.1f} s ({self.config.address}). "
            f"{self.fixes.get('timeout', 'Check the arm and its connection')}"
        )

    def _checked(self, answer: Answer, what: str) -> Answer:
        if answer.kind in ("started", "ready", "done"):
            return answer
        if answer.kind == "stopped":
            raise ArmError(f"The arm was stopped: {answer.text}. Inspect it, then recover")
        if answer.text.startswith(UNREACHABLE):
            raise UnreachableError(answer.text.removeprefix(f"{UNREACHABLE}: "))
        fixes = [fix for name, fix in self.fixes.items() if name in answer.text]
        fix = fixes[0] if fixes else "Inspect it, then recover"
        error = ReflexError if any(name in answer.text for name in self.collisions) else ArmError
        raise error(f"Could not {what} ({self.config.address}): {answer.text}. {fix}")


def _seven_numbers(what: str, values: ArrayLike) -> Array:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (7,) or not np.isfinite(numbers).all():
        raise ArmError(f"{what} {numbers.tolist()} is not seven finite numbers: nothing was sent")
    return numbers
