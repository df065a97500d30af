"""Options of the process that runs a user's arm."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot.ranges import between, check_ranges
from robot.safety.shared_state import Clock


@dataclass(frozen=True, kw_only=True)
class HostedConfig:
    """Options of the process that runs a user's arm.

    Raises:
        ConfigError: A value is out of its range.
    """

    address: str = "the arm"
    """What the driver connects to, for messages."""
    connect_timeout_s: float = field(default=30.0, metadata=between(0.1, 86400, "s"))
    """Connection timeout [s]."""
    motion_timeout_s: float = field(default=10.0, metadata=between(0.1, 86400, "s"))
    """Motion timeout [s]; a motion that takes longer is stopped."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def clock(self) -> Clock:
        """Clock of the time limits: the host's."""
        return "host"
