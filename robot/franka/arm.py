"""A Franka arm (FR3, Panda) as a `robot.Arm`, driven by libfranka in a separate process.

Targets are absolute poses of the flange; the driver adds the arm's own end-effector frame.
Requires franky (`pip install 'worldmodel[robot]'`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import ArmSpec, ArmState, Closing, Sent
from robot.constants import PERIOD_S
from robot.errors import ArmError, ReflexError
from robot.franka.config import Answer, FrankaConfig, Order
from robot.franka.driver import serve
from robot.kinematics import Kinematics
from robot.pose import apply_action, is_closed_after, pose_diff
from robot.safety.process_handle import ProcessHandle
from robot.safety.shared_state import FUTURE_S, SharedArmState
from robot.safety.watchdog import WatchdogConfig, watch

Array = NDArray[np.float64]

__all__ = ["FrankaArm", "FrankaConfig", "WatchdogConfig"]

FIXES = {
    "RealtimeException": "Install a real-time kernel, or set realtime=false for a simulated arm",
    "NetworkException": "Check the cable, the address and that FCI is activated in Desk",
    "Net Exception": "Check the cable, the address and that FCI is activated in Desk",
    '"Reflex"': "The arm has errors: inspect it, then clear them in Desk",
    "timeout": "Another client holds the arm, or the address is wrong: close it, or check Desk",
}
"""Fix to suggest when a failure's text contains the key."""
COLLISIONS = "joint_reflex", "cartesian_reflex"
"""libfranka's names for errors caused by exceeding a collision threshold."""
START_S = 120.0
"""Timeout for a process to start [s]; a busy machine may take most of a minute."""
GUARD_S = 1.0
"""Commands are refused if the watchdog has been silent for this long by the ages' clock [s]."""
STOP_S = 1.5
"""Longest time that `stop` waits for the arm to come to rest [s]."""
FRESH_S = 0.1
"""A simulated arm whose time waits is waited for until its reading is newer than this [s]."""


class FrankaArm(Closing):
    """Sends commands to a driver process; a watchdog process monitors both.

    Args:
        config: Driver options.
        watchdog: Maximum ages of heartbeat, frame and state while the arm moves.
        kind: Arm model, `fr3` or `panda`; decides the joint limits.
        joint_margin_rad: Margin kept from every joint limit [rad].

    Raises:
        ArmError: The connection failed or timed out; the message says what to check.
    """

    def __init__(
        self,
        config: FrankaConfig,
        watchdog: WatchdogConfig | None = None,
        *,
        kind: str = "fr3",
        joint_margin_rad: float = 0.1,
    ) -> None:
        if importlib.util.find_spec("franky") is None:
            raise ArmError("The driver needs franky: pip install 'worldmodel[robot]'")
        self.config, self.solver = config, Kinematics(kind, joint_margin_rad)
        self._ages = watchdog or WatchdogConfig()
        context = multiprocessing.get_context("spawn")
        self.link = SharedArmState(context, config.clock)
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
            self._wait(self.config.connect_timeout_s, "connect to the arm", beat=False)
            self._watchdog = context.Process(
                target=watch, args=(self.link, self._ages, driver, os.getpid()), daemon=True
            )
            self._watchdog.start()
        finally:
            driver.close()
        until = time.monotonic() + START_S
        while not self._is_guarded():
            if time.monotonic() > until or not self._watchdog.is_alive():
                raise ArmError("The watchdog's process did not start: create a new FrankaArm")
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
    def spec(self) -> ArmSpec:
        """State and action conventions of the arm."""
        return ArmSpec(period_s=self.config.preempt_s or PERIOD_S)

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
            errors.append("the driver's process ended: create a new FrankaArm")
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
        target = apply_action(self.state().state, np.append(asked[:6], 0.0))
        target[6] = float(is_closed_after(float(asked[6]), self.closed))
        return self.send_pose(target)

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
            raise ArmError("The watchdog's process does not run: create a new FrankaArm")
        joints = self.solver.solve(wanted, now.q)
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
            raise ArmError(f"The arm {what}: inspect it, then create a new FrankaArm")
        seen = self.link.newest_stop
        self._drain()
        self._send(Order("recover"))
        self._wait(self.config.connect_timeout_s, "recover", beat=False)
        self.link.clear(seen)

    def disconnect(self) -> None:
        """Release the arm and keep the driver process."""
        self._send(Order("disconnect"))
        self._wait(self.config.connect_timeout_s, "disconnect", beat=False)

    def connect(self) -> None:
        """Connect again after `disconnect`."""
        self._send(Order("connect"))
        self._wait(self.config.connect_timeout_s, "connect to the arm", beat=False)
        self.closed = self._is_closed()

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
            raise ArmError("The driver's process ended: create a new FrankaArm") from error

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
                    "arm, then create a new FrankaArm"
                ) from error
        if self._watchdog is None:  # not connected yet: leave no process behind
            self._driver.kill()
        raise ArmError(
            f"Could not {what} within {timeout_s:.1f} s ({self.config.address}). {FIXES['timeout']}"
        )

    def _checked(self, answer: Answer, what: str) -> Answer:
        if answer.kind in ("started", "ready", "done"):
            return answer
        if answer.kind == "stopped":
            raise ArmError(f"The arm was stopped: {answer.text}. Inspect it, then recover")
        fixes = [fix for name, fix in FIXES.items() if name in answer.text]
        fix = fixes[0] if fixes else "Inspect it, then recover"
        error = ReflexError if any(name in answer.text for name in COLLISIONS) else ArmError
        raise error(f"Could not {what} ({self.config.address}): {answer.text}. {fix}")


def _seven_numbers(what: str, values: ArrayLike) -> Array:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (7,) or not np.isfinite(numbers).all():
        raise ArmError(f"{what} {numbers.tolist()} is not seven finite numbers: nothing was sent")
    return numbers
