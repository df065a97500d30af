"""Reads a camera in a thread, so that planning sees the newest frame, not a buffered one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from robot.cameras.camera import Camera, Frame
from robot.errors import CameraError

log = logging.getLogger(__name__)

CLOSE_S = 1.0
"""How long `close` waits for a hung device [s]."""


class ThreadedCamera:
    """Reads a camera continuously and returns the newest frame with its capture time.

    If the device hangs, `read` keeps returning its last, ageing frame; if it fails, the next `read`
    raises its error. The thread that reads the device also releases it: OpenCV crashes when a
    device is released while another thread waits for its frame.

    Args:
        camera: Any camera whose `read` waits for the next frame.
        on_frame: Called from the thread with the time of each frame that differs from the previous
            one, which tells a watchdog that the camera works.
        on_error: Called once from the thread with the reason when the device fails.
        first_s: Timeout for the first frame [s].
        pause_s: Pause between reads [s], for cameras whose `read` does not block.

    Raises:
        CameraError: No frame arrived within `first_s`, or the device failed.
    """

    def __init__(
        self,
        camera: Camera,
        on_frame: Callable[[float], None] | None = None,
        *,
        on_error: Callable[[str], None] | None = None,
        first_s: float = 5.0,
        pause_s: float = 0.002,
    ) -> None:
        self.camera, self.on_frame, self.on_error = camera, on_frame, on_error
        self.pause_s = pause_s
        self.newest: Frame | None = None
        self.error = ""
        self._ended, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(first_s):
            self._ended.set()
            raise CameraError(f"No frame within {first_s} s: is the camera plugged in and unused?")
        if self.newest is None:
            raise CameraError(self.error)

    def _run(self) -> None:
        try:
            self._grab()
        except Exception as error:  # noqa: BLE001 - drivers of devices raise errors of any kind
            known = isinstance(error, CameraError) and str(error)
            self.error = known or f"The camera failed ({type(error).__name__}: {error})"
            if self.on_error is not None and not self._ended.is_set():
                self.on_error(self.error)
        finally:
            self._ready.set()
            self.camera.close()

    def _grab(self) -> None:
        while not self._ended.is_set():
            frame = self.camera.read()
            last, self.newest = self.newest, frame
            changed = last is None or not np.array_equal(last.image, frame.image)
            if self.on_frame is not None and changed:
                self.on_frame(frame.time_s)
            self._ready.set()
            time.sleep(self.pause_s)

    def read(self) -> Frame:
        """Return the newest frame.

        Raises:
            CameraError: The device has failed.
        """
        if self.error or self.newest is None:
            raise CameraError(self.error or "The camera has given no frame")
        return self.newest

    def close(self) -> None:
        """End the thread, which releases the device once the device answers."""
        self._ended.set()
        self._thread.join(timeout=CLOSE_S)
        if self._thread.is_alive():
            log.warning(
                "the camera hangs: it is released when it answers, or when this process ends"
            )
