"""Open the camera that `camera=` names."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from planning.errors import PlanError
from planning.plugins import is_reference, load, registered
from robot.cameras.camera import Camera, OpenCVCamera, SequenceCamera
from robot.cameras.realsense import RealSenseCamera

STREAM_S = 2.0
"""Time limit for opening a camera's stream and for each of its frames [s]."""


def open_camera(source: str, *, live: bool = False, patience: float = 1.0) -> Camera:
    """Open a camera.

    Args:
        source: Index, device path, folder, video file, URL, NAME[:ARGUMENT] with a registered name
            (realsense:SERIAL), or the user's own `module:Class`.
        live: Whether recordings play in real time.
        patience: Factor of the time limit for the frames of a stream, for a busy machine.

    Raises:
        CameraError: The camera cannot be opened.
        PlanError: A user's class cannot be loaded, or is not a camera.
    """
    if source.isdigit():
        return OpenCVCamera(int(source))
    path = Path(source)
    if path.is_dir() or path.is_file():
        return SequenceCamera(path, live=live)
    name, _, argument = source.partition(":")
    if name == "realsense":
        return RealSenseCamera(argument)
    if not argument.startswith("//") and name in registered("camera"):  # else a URL
        return _own(name, (argument,) if argument else ())
    if is_reference(source):
        return _own(source, ())
    return OpenCVCamera(source, timeout_s=STREAM_S * patience)


def _own(name: str, arguments: tuple[str, ...]) -> Camera:
    """Create a camera of another package or of the user's own class."""
    make = load("camera", name)
    camera = make(*arguments) if callable(make) else None
    if not (callable(getattr(camera, "read", None)) and callable(getattr(camera, "close", None))):
        raise PlanError(
            f"camera={name} gives {type(camera).__name__}, which is not a camera. It needs a "
            "method read that returns a robot.cameras.camera.Frame, and a method close."
        )
    return cast(Camera, camera)
