"""ZED stereo cameras: the left image, from the maker's SDK or from the side-by-side stream.

No ZED was available: the stream is tested with synthetic side-by-side pictures, and of the SDK's
camera only that its library is missing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robot.cameras.camera import Camera, Frame, OpenCVCamera, SequenceCamera
from robot.errors import CameraError

MIN_ASPECT = 2.0
"""Two pictures side by side are at least this many times as wide as high."""


class SideBySideCamera:
    """One of two pictures that a camera delivers side by side in one frame.

    Args:
        camera: Any camera of such frames.
        side: Picture to use; the left one is that of the reference lens.
    """

    def __init__(self, camera: Camera, side: Literal["left", "right"] = "left") -> None:
        self.camera, self.side = camera, side

    def read(self) -> Frame:
        """Return the newest frame's picture.

        Raises:
            CameraError: The frame is not two pictures side by side.
        """
        frame = self.camera.read()
        height, width = frame.image.shape[:2]
        if width % 2 or width < MIN_ASPECT * height:
            raise CameraError(
                f"A frame of {width}x{height} px is not two pictures side by side, at least "
                f"{MIN_ASPECT:g} times as wide as high. Is it the camera's stereo stream?"
            )
        half = width // 2
        part = frame.image[:, :half] if self.side == "left" else frame.image[:, half:]
        return Frame(np.ascontiguousarray(part), frame.time_s)

    def close(self) -> None:
        """Release the camera."""
        self.camera.close()


def open_side_by_side(source: str = "0") -> SideBySideCamera:
    """Open a stereo camera without its SDK, as the UVC device that it also is.

    Args:
        source: Camera index, device path, stream URL, video file or folder.

    Raises:
        CameraError: The source cannot be opened.
    """
    if source.isdigit():
        return SideBySideCamera(OpenCVCamera(int(source)))
    if Path(source).is_dir() or Path(source).is_file():
        return SideBySideCamera(SequenceCamera(source, live=True))
    return SideBySideCamera(OpenCVCamera(source))


class ZedCamera:
    """Rectified left image of a ZED through the SDK's Python API, `pyzed`.

    Args:
        serial: Serial number; empty selects the only camera connected.

    Raises:
        CameraError: The SDK is missing, or the camera cannot be opened.
    """

    def __init__(self, serial: str = "") -> None:
        try:
            import pyzed.sl as sl
        except ImportError as error:
            raise CameraError(
                f"The ZED SDK's Python API is missing ({error}): install Stereolabs' SDK and run "
                "its get_python_api.py. Without it, camera=side_by_side:0 reads the same device "
                "as a UVC camera, unrectified"
            ) from error
        if serial and not serial.isdigit():
            raise CameraError(f"ZED serial number {serial!r}; allowed: digits")
        self.sl: Any = sl
        self.serial = serial
        settings = sl.InitParameters()
        settings.depth_mode = sl.DEPTH_MODE.NONE
        if serial:
            settings.set_from_serial_number(int(serial))
        self.device, self.picture = sl.Camera(), sl.Mat()
        status = self.device.open(settings)
        if status != sl.ERROR_CODE.SUCCESS:
            raise CameraError(
                f"ZED {serial or '(any)'} cannot be opened ({status}): is it in a USB 3 port, and "
                "not in use elsewhere?"
            )

    def read(self) -> Frame:
        """Return the next left image.

        Raises:
            CameraError: The camera gives no frame.
        """
        status = self.device.grab()
        taken = time.monotonic()
        if status != self.sl.ERROR_CODE.SUCCESS:
            raise CameraError(
                f"ZED {self.serial or '(any)'} gives no frame ({status}): is it plugged in?"
            )
        self.device.retrieve_image(self.picture, self.sl.VIEW.LEFT)
        bgra = np.asarray(self.picture.get_data(), dtype=np.uint8)
        return Frame(np.ascontiguousarray(bgra[..., 2::-1]), taken)

    def close(self) -> None:
        """Release the device."""
        self.device.close()
