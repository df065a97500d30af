"""Watchdog process that stops the arm when the planner, the camera or the driver fails.

It reads shared memory only. While the arm moves, the planner's heartbeat, the newest good frame and
the arm's own clock must be recent; otherwise it sets the stop flag with the reason. A driver that
does not stop within `kill_s` is killed: the robot then loses its connection and brakes. The flag
stays set until an operator confirms (`DrivenArm.recover`).

The driver in turn watches the watchdog: if its checks stop for `planner_s` while the arm moves, the
driver stops the arm.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from types import FrameType

from robot.ranges import between, check_ranges
from robot.safety.process_handle import ProcessHandle
from robot.safety.shared_state import FUTURE_S, SharedArmState


@dataclass(frozen=True, kw_only=True)
class WatchdogConfig:
    """Maximum ages while the arm moves [s].

    Raises:
        ConfigError: A value is out of its range.
    """

    planner_s: float = field(default=0.2, metadata=between(0.001, 3600, "s"))
    """Maximum age of the planner's heartbeat, and of the watchdog's last check [s]."""
    frame_s: float = field(default=0.3, metadata=between(0.001, 3600, "s"))
    """Maximum age of the newest good camera frame [s]."""
    state_s: float = field(default=0.2, metadata=between(0.001, 3600, "s"))
    """Maximum time since the arm's clock last advanced [s]."""
    kill_s: float = field(default=0.8, metadata=between(0.001, 3600, "s"))
    """Time allowed for a stop before the driver process is killed [s]."""
    period_s: float = field(default=0.01, metadata=between(0.0001, 1, "s"))
    """Time between two checks [s]."""

    def __post_init__(self) -> None:
        check_ranges(self)


def find_fault(link: SharedArmState, config: WatchdogConfig) -> str:
    """Return why the arm must stop now; empty if it may continue."""
    if not link.moving:
        return ""
    for what, age, most in (
        ("the planner's last heartbeat", link.beat_age_s, config.planner_s),
        ("the newest camera frame", link.frame_age_s, config.frame_s),
        ("the arm's newest state", link.state_age_s, config.state_s),
    ):
        if not -FUTURE_S <= age <= most:
            return f"watchdog: {what} is {age:.2f} s old, at most {most} while the arm moves"
    return ""


def watch(link: SharedArmState, config: WatchdogConfig, driver: ProcessHandle, parent: int) -> None:
    """Run the watchdog; when the planner process exits, it stops the arm and returns.

    Args:
        link: Memory shared with the planner process and the driver.
        config: Maximum ages.
        driver: The driver process.
        parent: PID of the planner process.
    """
    ended_by = _catch_signals(link)
    gone_since = 0.0
    while True:
        link.guard()
        if os.getppid() != parent or ended_by:
            gone_since = gone_since or time.monotonic()
            link.stop("watchdog: the planner's process is gone")
            waited = time.monotonic() - gone_since
            if not (driver.is_alive and link.moving and waited <= 2 * config.kill_s):
                return
        if not link.is_stopped:
            reason = find_fault(link, config)
            if reason:
                link.stop(reason)
        elif link.moving and not link.stopped_for_s <= config.kill_s:
            with contextlib.suppress(ProcessLookupError):
                driver.kill()
        time.sleep(config.period_s)


def _catch_signals(link: SharedArmState) -> list[int]:
    """Leave Ctrl-C and a closed terminal to the planner; stop the arm when asked to terminate.

    Returns:
        A list that receives the signal that ends this process.
    """
    ended_by: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        link.stop("watchdog: its process was asked to terminate")
        ended_by.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    return ended_by
