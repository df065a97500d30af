"""Arms written by users, run in their own process under the watchdog."""

from robot.hosted.arm import HostedArm
from robot.hosted.config import HostedConfig

__all__ = ["HostedArm", "HostedConfig"]
