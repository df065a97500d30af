"""Cameras with timestamps, and the checks that keep a plan off bad frames."""

from robot.cameras.camera import (
    CallableCamera,
    Camera,
    CheckedCamera,
    Frame,
    OpenCVCamera,
    SequenceCamera,
)

__all__ = ["CallableCamera", "Camera", "CheckedCamera", "Frame", "OpenCVCamera", "SequenceCamera"]
