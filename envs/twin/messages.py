"""Messages between the twin and its server process; imports no part of franky-sim."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.errors import TwinError
from envs.objects import Wall

HEAD = 2
"""Number of shared values before the joint positions: sequence number and simulated time [s]."""
CLIENT_S = 5.0
"""Client silence after which a motion is aborted [s]. A real arm, whose clock does not wait, aborts
after 20 ms."""
HANG_S = 300.0
"""Time without an answer after which a live process counts as hung [s]. A busy machine may take
most of a minute to start one, so a shorter time would not distinguish slow from hung."""


@dataclass(frozen=True)
class Start:
    """Order to begin an episode."""

    qpos: NDArray[np.float64]
    """Joint positions and object pose, in MuJoCo's layout."""
    scales: tuple[float, ...]
    """Size of each object over its nominal size."""
    wall: Wall | None
    """The wall, if the scene has one."""
    closed: bool
    """Whether the gripper was last commanded to close."""


@dataclass(frozen=True)
class Reflex:
    """Order to abort the current motion with a collision reflex."""


@dataclass(frozen=True)
class Answer:
    """The server's answer to an order or after start-up."""

    kind: Literal["done", "failed"]
    text: str = ""
    """Address of the arm after start-up, or why the order failed."""


def leave_signals_to_parent() -> None:
    """Ignore what ends a terminal: the parent first stops the arm, then ends this process."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def wait_for(pipe: Connection, process: BaseProcess, what: str) -> str:
    """Wait for a live process's answer and return its text.

    Args:
        pipe: Connection on which the answer arrives.
        process: The process that answers.
        what: What the process was asked to do, for the error message.

    Raises:
        TwinError: The process failed, ended, or hangs.
    """
    until = time.monotonic() + HANG_S
    why = f"no answer within {HANG_S:.0f} s"
    try:
        while time.monotonic() < until:
            if pipe.poll(0.05):
                answer: Answer = pipe.recv()
                if answer.kind == "done":
                    return answer.text
                why = answer.text
                break
            if not process.is_alive() and not pipe.poll():
                why = f"its process ended with status {process.exitcode}"
                break
    except (EOFError, OSError):
        process.join(1.0)
        why = f"its process ended with status {process.exitcode}"
    raise TwinError(f"The twin did not {what}: {why}. Is port 1337 of some 127.x.y.z free?")
