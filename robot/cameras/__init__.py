"""Cameras with timestamps, and checks that reject unfit frames."""

from robot.cameras.camera import (
    CallableCamera,
    Camera,
    CheckedCamera,
    Frame,
    OpenCVCamera,
    SequenceCamera,
)

__all__ = ["CallableCamera", "Camera", "CheckedCamera", "Frame", "OpenCVCamera", "SequenceCamera"]
