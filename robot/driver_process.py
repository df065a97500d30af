"""The life of a driver process: signals, start, orders, end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Protocol

from robot.arm import ArmSpec
from robot.driver_messages import Answer
from robot.safety.shared_state import SharedArmState


class Driver(Protocol):
    """Executes the orders of the planner process."""

    leaving: bool
    """Whether the loop is to end."""

    @property
    def spec(self) -> ArmSpec | None:
        """Conventions of the arm, if only the driver process knows them."""

    def run(self) -> None:
        """Loop until an order ends the process or the planner process has exited."""


def text_of(error: Exception) -> str:
    """Return the class and the message of an error."""
    return f"{type(error).__name__}: {error}"


def run_driver(start: Callable[[], Driver], link: SharedArmState, pipe: Connection) -> None:
    """Start a driver, report whether it is ready, and run it; SIGTERM stops the arm first.

    Args:
        start: Connects to the arm.
        link: Memory shared with the planner process and the watchdog.
        pipe: Connection that receives orders and sends answers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the planner process decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    pipe.send(Answer("started"))  # the connection timeout starts here
    try:
        driver = start()
    except Exception as error:  # noqa: BLE001 - reported to the planner's process
        pipe.send(Answer("failed", text_of(error)))
        return

    def leave(*_: object) -> None:
        link.stop("the driver's process was asked to terminate")
        driver.leaving = True

    signal.signal(signal.SIGTERM, leave)
    pipe.send(Answer("ready", spec=driver.spec))
    driver.run()
