"""How long a download waits for a server, and how slow it may be."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a download may take."""

    timeout_s: float = 30.0
    """Longest silence [s]."""
    floor_bytes_per_s: float = 10_000.0
    """Lowest average speed over a window [bytes/s]."""
    window_s: float = 60.0
    """Duration of a window [s]."""
    deadline_s: float = 86_400.0
    """Longest duration of all attempts together [s]."""
    attempts: int = 3
    """Number of connections before giving up."""


PATIENT = Patience()


class BrokenError(Exception):
    """This attempt failed; the next one may succeed."""


class SpeedFloor:
    """Raises if a window's average speed is below the floor."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.began_s, self.received = time.monotonic(), 0

    def add(self, count: int) -> None:
        """Count received bytes.

        Raises:
            BrokenError: They came too slowly.
        """
        self.received += count
        passed_s = time.monotonic() - self.began_s
        if passed_s < self.patience.window_s:
            return
        if self.received < self.patience.floor_bytes_per_s * passed_s:
            raise BrokenError(
                f"sent {self.received} bytes in {passed_s:.0f} s; at least "
                f"{self.patience.floor_bytes_per_s:g} bytes/s are needed"
            )
        self.began_s, self.received = time.monotonic(), 0
