"""Messages between the twin and its server's process; imports neither franky-sim nor MuJoCo."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.errors import EnvError

HEAD = 2
"""Shared numbers before the joint positions: sequence number and simulated time [s]."""
CLIENT_S = 5.0
"""A client that is silent for this long [s] while the arm moves has its motion aborted. A real arm,
whose time does not wait, does so after 20 ms."""
HANG_S = 300.0
"""A live process that gives no answer for this long [s] counts as hung. A busy machine may take
most of a minute to start one, so nothing shorter tells a slow process from a dead one."""


@dataclass(frozen=True)
class Start:
    """Order to begin an episode."""

    qpos: NDArray[np.float64]
    """Joint positions and the object's pose, as MuJoCo has them."""
    size: NDArray[np.float64]
    """Half sizes of the object [m]."""
    closed: bool
    """Whether the gripper was last commanded to close."""


@dataclass(frozen=True)
class Reflex:
    """Order to abort the motion under way with a collision reflex."""


@dataclass(frozen=True)
class Answer:
    """The server's answer to an order, or to being started."""

    kind: Literal["done", "failed"]
    text: str = ""
    """Address of the arm once started, or why the order failed."""


def wait_for(pipe: Connection, process: BaseProcess, what: str) -> str:
    """Wait for a process's answer for as long as it lives; return the answer's text.

    Args:
        pipe: Where the answer arrives.
        process: The process that gives it.
        what: What the process was asked to do, for the message.

    Raises:
        EnvError: The process failed, ended, or hangs.
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
    raise EnvError(f"The twin did not {what}: {why}. Is port 1337 of some 127.x.y.z free?")
