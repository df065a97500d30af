"""Grippers other than the Franka hand."""

from robot.grippers.gripper import Gripper, HandOf

__all__ = ["Gripper", "HandOf"]
