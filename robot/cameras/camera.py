"""Timestamped cameras, and checks that reject stale, frozen and black frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from robot.errors import CameraError
from robot.ranges import between, check_number
from robot.safety.shared_state import FUTURE_S

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """An image and its capture time."""

    image: Image
    """RGB [H, W, 3]."""
    time_s: float
    """Capture time by `time.monotonic()` [s]."""


class Camera(Protocol):
    """A source of frames."""

    def read(self) -> Frame:
        """Return the newest frame.

        Raises:
            CameraError: No frame is available.
        """

    def close(self) -> None:
        """Release the device."""


class CallableCamera:
    """A camera that calls a function for each frame, such as a simulator's renderer."""

    def __init__(self, render: Callable[[], Image]) -> None:
        self.render = render

    def read(self) -> Frame:
        """Render a frame."""
        taken = time.monotonic()
        return Frame(self.render(), taken)

    def close(self) -> None:
        """Do nothing: there is no device."""


class SequenceCamera:
    """Plays back a video file or a folder of images sorted by name, one image per read.

    Args:
        path: Folder of PNG or JPEG files, or a video.
        size: Height and width to scale to [px].
        live: Whether to play in real time, by the video's timestamps or, for a folder, at `fps`;
            False returns images as fast as they are read.
        fps: Frame rate of a folder that plays in real time [Hz].

    Raises:
        CameraError: The path holds no images.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int] | None = None,
        *,
        live: bool = False,
        fps: float = 15.0,
    ) -> None:
        source = Path(path)
        if source.is_dir():
            kinds = {".png", ".jpg", ".jpeg"}
            files = sorted(p for p in source.iterdir() if p.suffix.lower() in kinds)
        else:
            files = [source]
        if not files or not source.exists():
            raise CameraError(
                f"No images at {source}; allowed: a video, or a folder of PNG or JPEG files"
            )
        self.live, self._began = live, 0.0
        self.frames = self._decode(files, size, 0.0 if source.is_file() else 1.0 / fps)

    @staticmethod
    def _decode(
        files: list[Path], size: tuple[int, int] | None, period_s: float
    ) -> Generator[tuple[Image, float]]:
        """Yield images, each with its time [s]; a period of 0 uses the video's own times."""
        for index, file in enumerate(files):
            try:
                with av.open(str(file)) as container:
                    for frame in container.decode(video=0):
                        quarters = round(frame.rotation / 90)  # a phone's video, anticlockwise
                        height, width = size or (frame.height, frame.width)
                        if size and quarters % 2:
                            height, width = width, height
                        image = frame.to_ndarray(format="rgb24", width=width, height=height)
                        image = np.ascontiguousarray(np.rot90(image, quarters))
                        yield image, index * period_s if period_s else float(frame.time or 0.0)
            except av.error.FFmpegError as error:
                raise CameraError(f"{file} cannot be decoded ({error})") from error

    def read(self) -> Frame:
        """Return the next image, stamped with the current time.

        Raises:
            CameraError: End of the recording.
        """
        found = next(self.frames, None)
        if found is None:
            raise CameraError("End of the recording: there are no more images")
        image, due_s = found
        if self.live:
            self._began = self._began or time.monotonic() - due_s
            time.sleep(max(0.0, self._began + due_s - time.monotonic()))
        return Frame(image, time.monotonic())

    def close(self) -> None:
        """Close the file."""
        self.frames.close()


class OpenCVCamera:
    """A UVC camera or a network stream through OpenCV. Requires the extra `robot`.

    Frames are stamped on arrival: the delay of the sender and the network is unknown.

    Args:
        source: Camera index or device path, file, or stream URL (`http://`, `rtsp://`).
        size: Height and width to scale to [px].
        timeout_s: Timeout for opening a stream and for each of its frames [s]; a device's own
            timeout (10 s on Linux) cannot be changed.

    Raises:
        CameraError: OpenCV is missing, or the source cannot be opened.
    """

    def __init__(
        self, source: int | str = 0, size: tuple[int, int] | None = None, *, timeout_s: float = 2.0
    ) -> None:
        try:
            import cv2
        except ImportError as error:
            raise CameraError("OpenCV is missing: pip install 'worldmodel[robot]'") from error
        self.cv2, self.size, self.source = cv2, size, source
        if isinstance(source, str) and "://" in source:
            limit = int(1000 * timeout_s)
            settings = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                limit,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                limit,
                cv2.CAP_PROP_N_THREADS,
                1,  # each decoding thread holds a frame back
            ]
            self.device = cv2.VideoCapture(source, cv2.CAP_FFMPEG, settings)
        else:
            self.device = cv2.VideoCapture(source)
        if not self.device.isOpened():
            raise CameraError(
                f"Camera {source!r} cannot be opened: is it plugged in and not in use elsewhere?"
            )
        self.device.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self) -> Frame:
        """Return the next frame of the device.

        Raises:
            CameraError: The device delivers no frame.
        """
        ok, image = self.device.read()
        taken = time.monotonic()
        if not ok:
            raise CameraError(f"Camera {self.source!r} gives no frame: is it still plugged in?")
        if self.size is not None:
            shape = self.size[::-1]
            image = self.cv2.resize(image, shape, interpolation=self.cv2.INTER_AREA)
        return Frame(np.ascontiguousarray(image[..., ::-1]), taken)

    def close(self) -> None:
        """Release the device; never while another thread is in `read`, which crashes OpenCV."""
        self.device.release()


def _limit(name: str, value: float) -> float:
    """Return a limit, which may be infinite for a check that does not apply."""
    if isinstance(value, int | float) and value == math.inf:
        return math.inf
    check_number(name, value, between(0, 3600))
    return value


class CheckedCamera:
    """Rejects frames that are stale, frozen or black.

    Args:
        camera: Any camera.
        max_age_s: Maximum age of a frame [s].
        frozen_s: Time of identical frames after which the camera counts as hung [s]; sensor noise
            makes real frames differ, so pass infinity for a simulation at rest.
        dark: Mean brightness (0..255) below which a frame counts as black.

    Raises:
        ConfigError: A limit is negative or no number.
    """

    def __init__(
        self, camera: Camera, *, max_age_s: float = 0.2, frozen_s: float = 0.5, dark: float = 4.0
    ) -> None:
        self.camera = camera
        self.max_age_s = _limit("max_age_s", max_age_s)
        self.frozen_s, self.dark = _limit("frozen_s", frozen_s), _limit("dark", dark)
        self._last: Frame | None = None
        """First frame of the current run of identical frames."""

    def read(self) -> Frame:
        """Return the newest frame.

        Raises:
            CameraError: The frame is not an RGB image, too old, from the future, black, or has not
                changed for `frozen_s`.
        """
        frame = self.camera.read()
        shape, kind = np.shape(frame.image), np.asarray(frame.image).dtype
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or kind != np.uint8:
            raise CameraError(f"The frame is {kind} {shape}; allowed: uint8 (height, width, 3)")
        age = time.monotonic() - frame.time_s
        if not -FUTURE_S <= age <= self.max_age_s:
            raise CameraError(f"The newest frame is {age:.2f} s old, at most {self.max_age_s} s")
        if not float(frame.image.mean()) >= self.dark:
            raise CameraError("The camera image is black: is the lens cap on, or the light off?")
        last = self._last
        if last is None or not np.array_equal(last.image, frame.image):
            self._last = frame
        elif not frame.time_s - last.time_s <= self.frozen_s:
            same = frame.time_s - last.time_s
            raise CameraError(
                f"The camera image has not changed for {same:.2f} s: the camera hangs"
            )
        return frame

    def close(self) -> None:
        """Release the camera."""
        self.camera.close()
