"""Workspace and step limits, the layer that enforces them, and the watchdog."""

from robot.safety.config import SafetyConfig
from robot.safety.layer import SafeArm

__all__ = ["SafeArm", "SafetyConfig"]
