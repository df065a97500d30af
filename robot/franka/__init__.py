"""Franka arms (FR3, Panda) through libfranka."""

from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig

__all__ = ["FrankaArm", "FrankaConfig", "WatchdogConfig"]
