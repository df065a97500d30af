"""A process that stops the arm when the planner, the camera or the driver fails.

It reads shared memory only. While the arm moves, the planner's heartbeat, the newest good frame and
the arm's own clock must be recent; else it raises the stop flag with the reason. A driver that does
not stop within `kill_s` is killed: libfranka then loses its connection and the arm brakes. The flag
stays until a person confirms (`FrankaArm.recover`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass

from robot.safety.shared_state import SharedArmState


@dataclass(frozen=True, kw_only=True)
class WatchdogConfig:
    """Largest ages while the arm moves [s]."""

    planner_s: float = 0.2
    """Largest age of the planner's heartbeat [s]."""
    frame_s: float = 0.3
    """Largest age of the newest good camera frame [s]."""
    state_s: float = 0.2
    """Largest time since the arm's clock last advanced [s]."""
    kill_s: float = 0.8
    """If a stop takes longer than this, the driver's process is killed [s]."""
    period_s: float = 0.01
    """Time between two checks [s]."""


def find_fault(link: SharedArmState, config: WatchdogConfig) -> str:
    """Return why the arm must stop now; empty if it need not."""
    if not link.moving:
        return ""
    for what, age, most in (
        ("the planner's last heartbeat", link.beat_age_s, config.planner_s),
        ("the newest camera frame", link.frame_age_s, config.frame_s),
        ("the arm's newest state", link.state_age_s, config.state_s),
    ):
        if age > most:
            return f"watchdog: {what} is {age:.2f} s old, at most {most} while the arm moves"
    return ""


def watch(link: SharedArmState, config: WatchdogConfig, driver: int, parent: int) -> None:
    """Run the watchdog's process; it ends after the planner's process, with a last stop.

    Args:
        link: Memory shared with the planner's process and the driver.
        config: Largest ages.
        driver: Id of the driver's process.
        parent: Id of the planner's process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gone_since = 0.0
    while True:
        link.guard()
        if os.getppid() != parent:
            gone_since = gone_since or time.monotonic()
            link.stop("watchdog: the planner's process is gone")
            if time.monotonic() - gone_since > 2 * config.kill_s:
                return
        if not link.stopped:
            reason = find_fault(link, config)
            if reason:
                link.stop(reason)
        elif link.moving and link.stopped_for_s > config.kill_s:
            with contextlib.suppress(ProcessLookupError):
                os.kill(driver, signal.SIGKILL)
        time.sleep(config.period_s)
