"""A Franka arm (FR3, Panda) as a `robot.Arm`, driven by libfranka in a process of its own.

Targets are absolute poses of the flange; the driver adds the arm's own end-effector frame. Needs
franky (`pip install 'worldmodel[robot]'`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.arm import ArmSpec, ArmState, Sent
from robot.constants import PERIOD_S
from robot.errors import ArmError, ConfigError, ReflexError
from robot.franka.driver import FrankaConfig, serve
from robot.kinematics import Kinematics
from robot.pose import apply_action, is_closed_after, pose_diff
from robot.safety.shared_state import SharedArmState
from robot.safety.watchdog import WatchdogConfig, watch

Array = NDArray[np.float64]

__all__ = ["FrankaArm", "FrankaConfig", "WatchdogConfig"]

MENDS = {
    "RealtimeException": "install a real-time kernel, or set realtime=false for a simulated arm",
    "NetworkException": "check the cable, the address and that FCI is activated in Desk",
    "Net Exception": "check the cable, the address and that FCI is activated in Desk",
    '"Reflex"': "the arm has errors: look at it, then clear them in Desk",
    "timeout": "another client holds the arm, or the address is wrong: close it, or check Desk",
}
COLLISIONS = "joint_reflex", "cartesian_reflex"
"""libfranka's names for what collision thresholds are about."""
START_S = 15.0
GUARD_S = 1.0
"""Without a sign of the watchdog for so long, nothing is sent."""


class FrankaArm:
    """Commands a driver process; a watchdog process guards both.

    Raises:
        ArmError: no connection within the time allowed; the message says what to check.
    """

    def __init__(
        self,
        config: FrankaConfig,
        watchdog: WatchdogConfig | None = None,
        *,
        kind: str = "fr3",
        joint_margin_rad: float = 0.1,
    ) -> None:
        if not 0 < config.dynamics <= 1:
            raise ConfigError(f"dynamics is {config.dynamics}; wanted above 0 and at most 1")
        self.config, self.solver = config, Kinematics(kind, joint_margin_rad)
        self._ended: Array | None = None
        context = multiprocessing.get_context("spawn")
        self.link = SharedArmState(context)
        self._pipe, theirs = context.Pipe()
        self._driver = context.Process(target=serve, args=(config, self.link, theirs), daemon=True)
        self._watchdog: Any = None
        self._driver.start()
        theirs.close()
        self._answer(config.connect_timeout_s, "connect to the arm", beat=False)
        self._watchdog = context.Process(
            target=watch,
            args=(self.link, watchdog or WatchdogConfig(), self._driver.pid, os.getpid()),
            daemon=True,
        )
        self._watchdog.start()
        until = time.monotonic() + config.connect_timeout_s + START_S
        while self.link.guard_age_s > GUARD_S and time.monotonic() < until:
            time.sleep(0.01)
        self.closed = bool(self.state().state[6] > 0.5)

    @property
    def spec(self) -> ArmSpec:
        """Conventions of the arm's states and actions."""
        return ArmSpec(period_s=self.config.preempt_s or PERIOD_S)

    @property
    def driver_pid(self) -> int:
        """Process that owns the connection."""
        return int(self._driver.pid or 0)

    def state(self) -> ArmState:
        """Newest reading; its age counts from when the arm's clock last went on."""
        state = self.link.read()
        stopped = self.link.stopped
        if not self._driver.is_alive():
            return _with(state, (*state.errors, "the driver's process ended: connect again"))
        return _with(state, (*state.errors, stopped)) if stopped else state

    def send(self, action: ArrayLike) -> Sent:
        """Move by a DROID delta [7]; gripper over 0.15 closes, under -0.15 opens."""
        asked = np.asarray(action, dtype=np.float64)
        if asked.shape != (7,) or not np.isfinite(asked).all():
            raise ArmError(f"Action {asked.tolist()} is not seven finite numbers: nothing was sent")
        target = apply_action(self.state().state, np.append(asked[:6], 0.0))
        grip = float(asked[6])
        target[6] = float(is_closed_after(grip, self.closed))
        return self.send_pose(target)

    def send_pose(self, target: ArrayLike) -> Sent:
        """Move the flange to an absolute pose [7]; closedness over a half closes.

        Raises:
            ReflexError: the arm has felt a collision.
            ArmError: refused, stopped by the watchdog, or the connection is lost.
            UnreachableError: no joint positions for it within the margin; nothing was sent.
        """
        wanted = np.asarray(target, dtype=np.float64)
        if wanted.shape != (7,) or not np.isfinite(wanted).all():
            raise ArmError(
                f"Target {wanted.tolist()} is not seven finite numbers: nothing was sent"
            )
        now = self.state()
        if now.errors:
            raise ArmError(f"The arm is stopped ({'; '.join(now.errors)}): look, then recover")
        if self.link.guard_age_s > GUARD_S:
            self.link.stop("the watchdog's process does not run")
            raise ArmError("The watchdog's process does not run: close this arm, connect again")
        joints = self.solver.solve(wanted, now.q)
        self.link.beat()
        self._ended = None
        self._send(("go", wanted.tolist(), joints.tolist()))
        text = self._answer(self.config.motion_timeout_s + 3.0, "carry out the motion")
        self.closed = bool(wanted[6] > 0.5)
        action = pose_diff(now.state, wanted)
        reasons = (text,) if text else ()
        return Sent(action=action, target=wanted, reasons=reasons, ended=self._ended)

    def stop(self) -> None:
        """Stop at once; `recover` lifts it."""
        self.link.stop("stop was called")
        until = time.monotonic() + 1.5
        while self.link.moving and self._driver.is_alive() and time.monotonic() < until:
            time.sleep(0.005)

    def recover(self) -> None:
        """Clear errors and the stop; only after a person has looked.

        Raises:
            ArmError: the arm does not come back, or still moves: the stop is not lifted then.
        """
        if self.link.moving:
            self.stop()
        if self.link.moving or not self._driver.is_alive():
            what = "still moves" if self._driver.is_alive() else "has lost its driver's process"
            raise ArmError(f"The arm {what}: look at it, close this one and connect again")
        self._drain()
        self.link.clear()
        self._send(("recover",))
        self._answer(self.config.connect_timeout_s, "recover", beat=False)

    def disconnect(self) -> None:
        """Let go of the arm, keep the driver's process."""
        self._send(("disconnect",))
        self._answer(self.config.connect_timeout_s, "disconnect", beat=False)

    def connect(self) -> None:
        """Connect again after `disconnect`."""
        self._send(("connect",))
        self._answer(self.config.connect_timeout_s, "connect to the arm", beat=False)
        self.closed = bool(self.state().state[6] > 0.5)

    def close(self) -> None:
        """Stop, let go of the arm and end both processes."""
        if self._driver.is_alive():
            if self.link.moving:
                self.stop()
            with contextlib.suppress(OSError):
                self._pipe.send(("end",))
            self._driver.join(3.0)
        for process in (self._driver, self._watchdog):
            if process is not None and process.is_alive():
                process.kill()
                process.join()
        self._pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, order: tuple[Any, ...]) -> None:
        try:
            self._pipe.send(order)
        except OSError as error:
            raise ArmError(
                "The driver's process ended: close this arm and connect again"
            ) from error

    def _drain(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while self._pipe.poll():
                self._pipe.recv()

    def _answer(self, timeout_s: float, what: str, *, beat: bool = True) -> str:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if beat:
                self.link.beat()
            try:
                if self._pipe.poll(0.01):
                    kind, text, *more = self._pipe.recv()
                    self._ended = np.array(more[0]) if more else None
                    return self._meaning(kind, text, what)
            except (EOFError, OSError) as error:
                stopped = self.link.stopped
                raise ArmError(
                    f"The driver's process ended{f' ({stopped})' if stopped else ''}: look at the "
                    "arm, close this one and connect again"
                ) from error
        if what.startswith("connect"):
            self._driver.kill()
        raise ArmError(
            f"Could not {what} within {timeout_s:.1f} s ({self.config.address}): {MENDS['timeout']}"
        )

    def _meaning(self, kind: str, text: str, what: str) -> str:
        if kind in ("ready", "done"):
            return str(text)
        if kind == "stopped":
            raise ArmError(f"The arm was stopped: {text}. Look at it, then recover")
        mend = next((m for name, m in MENDS.items() if name in text), "look at it, then recover")
        mend = mend[0].upper() + mend[1:]
        error = ReflexError if any(name in text for name in COLLISIONS) else ArmError
        raise error(f"Could not {what} ({self.config.address}): {text}. {mend}")


def _with(state: ArmState, errors: tuple[str, ...]) -> ArmState:
    from dataclasses import replace

    return replace(state, errors=errors)
