"""Limits, the layer that enforces them, and the watchdog."""

from robot.safety.layer import SafeArm, SafetyConfig

__all__ = ["SafeArm", "SafetyConfig"]
