"""Timestamped cameras and frame checks."""

from robot.cameras.camera import (
    CallableCamera,
    Camera,
    CheckedCamera,
    Frame,
    OpenCVCamera,
    SequenceCamera,
)

__all__ = ["CallableCamera", "Camera", "CheckedCamera", "Frame", "OpenCVCamera", "SequenceCamera"]
