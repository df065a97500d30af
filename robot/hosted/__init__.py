"""Arms written by users, run in their own process under the watchdog."""

from robot.hosted.arm import HostedArm, HostedConfig

__all__ = ["HostedArm", "HostedConfig"]
