"""Operates the Franka hand in a separate thread, so that motions need not wait for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from robot.arm import Reason
from robot.constants import MAX_WIDTH_M
from robot.errors import GripperError
from robot.franka.config import FrankaConfig
from robot.grippers.gripper import HandOf


class GripperWorker:
    """Opens and closes the hand in a thread; only transitions reach the gripper.

    Args:
        connect: Returns a `franky.Gripper`, or another gripper as a `HandOf`. A simulated arm whose
            time waits may drop a gripper's connection when its driver stalls; a transition is then
            repeated once on a new one.
        config: Driver options, which set speed and force.
    """

    def __init__(self, connect: Callable[[], Any], config: FrankaConfig) -> None:
        self.connect, self.config = connect, config
        self.gripper = connect()
        self.width_m = float(self.gripper.width)
        self.closed = self.width_m < 0.5 * MAX_WIDTH_M
        self.lost = ""
        """Why a gripper with its own connection does not answer; empty if it does."""
        self.problem: Reason | None = None
        """Error of the latest transition; None if it succeeded."""
        self._orders: queue.Queue[bool | None] = queue.Queue()
        self._busy = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a transition is in progress."""
        return self._busy.is_set()

    def order(self, *, close: bool) -> None:
        """Close or open the hand; a repeated order is ignored."""
        if close != self.closed:
            self.closed = close
            self._busy.set()
            self._orders.put(close)

    def end(self) -> None:
        """End the thread; the connection closes with its last reference."""
        self._orders.put(None)
        self._thread.join(2.0)
        if isinstance(self.gripper, HandOf):
            self.gripper.close()

    def _work(self) -> None:
        while True:
            try:
                close = self._orders.get(timeout=0.05)
            except queue.Empty:
                self._read()
                continue
            if close is None:
                return
            try:
                self._carry_out_patiently(close)
                self.problem = None
            except Exception as error:  # noqa: BLE001 - franky does not export all of its errors
                self.problem = Reason("gripper", str(error))
                self.lost = str(error) if isinstance(error, GripperError) else ""
            if self._orders.empty():
                self._busy.clear()

    def _read(self) -> None:
        """Read the width; a Franka hand that misses one reading is not lost."""
        try:
            self.width_m = float(self.gripper.width)
        except GripperError as error:
            self.lost = str(error)
        except Exception:  # noqa: BLE001, S110 - franky does not export all of its errors
            pass

    def _carry_out_patiently(self, close: bool) -> None:
        try:
            self._carry_out(close)
        except Exception:  # franky does not export all of its errors
            if self.config.clock != "arm":
                raise
            self.gripper = None  # closes the connection
            self.gripper = self.connect()
            self._carry_out(close)

    def _carry_out(self, close: bool) -> None:
        speed, force = self.config.gripper_speed_m_s, self.config.gripper_force_n
        if close:
            # with these tolerances an empty grasp also "succeeds", so check the width
            done = self.gripper.grasp_async(0.0, speed, force, epsilon_inner=1.0, epsilon_outer=1.0)
        else:
            done = self.gripper.move_async(MAX_WIDTH_M - 0.001, speed)
        while not done.wait(0.02):
            self.width_m = float(self.gripper.width)
        done.get()
        self.width_m = float(self.gripper.width)
