"""Colour frames from an Intel RealSense camera. Requires the extra `realsense`."""

from __future__ import annotations

import time

import numpy as np

from robot.cameras.camera import Frame
from robot.errors import CameraError


class RealSenseCamera:
    """Colour stream of a RealSense device.

    Args:
        serial: Serial number of the device; empty selects the only one connected.
        size: Height and width of a mode that the device supports [px].
        fps: Frames per second.
        timeout_s: Timeout for a frame [s].

    Raises:
        CameraError: The library is missing, the device is not found, or it does not support the
            mode.
    """

    def __init__(
        self,
        serial: str = "",
        size: tuple[int, int] = (480, 640),
        fps: int = 30,
        timeout_s: float = 2.0,
    ) -> None:
        try:
            import pyrealsense2 as rs
        except ImportError as error:
            raise CameraError(
                "The RealSense library is missing: pip install 'worldmodel[realsense]'"
            ) from error
        self.timeout_ms, self.serial = int(timeout_s * 1000), serial
        config = rs.config()
        if serial:
            config.enable_device(serial)
        config.enable_stream(rs.stream.color, size[1], size[0], rs.format.rgb8, fps)
        self.pipeline = rs.pipeline()
        try:
            self.pipeline.start(config)
        except RuntimeError as error:
            raise CameraError(
                f"RealSense {serial or '(any)'} cannot be started at {size[1]}x{size[0]}, {fps} Hz "
                f"({error}): is it in a USB 3 port, unused, and does it offer that mode?"
            ) from error

    def read(self) -> Frame:
        """Return the next colour frame.

        Raises:
            CameraError: No frame arrived in time.
        """
        try:
            colour = self.pipeline.wait_for_frames(self.timeout_ms).get_color_frame()
        except RuntimeError as error:
            raise CameraError(
                f"RealSense {self.serial or '(any)'} gives no frame ({error}): is it plugged in?"
            ) from error
        taken = time.monotonic()
        return Frame(np.array(colour.get_data(), dtype=np.uint8), taken)

    def close(self) -> None:
        """Stop the stream."""
        self.pipeline.stop()
