"""Cameras with timestamps, and the checks that keep a plan off stale, frozen or black frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from robot.errors import CameraError

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """A picture and when it was taken."""

    image: Image
    """RGB [H, W, 3]."""
    time_s: float
    """`time.monotonic()` of its capture [s]."""


class Camera(Protocol):
    """Gives the newest frame."""

    def read(self) -> Frame:
        """Newest frame.

        Raises:
            CameraError: no frame can be had.
        """
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class CallableCamera:
    """Frames from a function, such as a simulation's renderer."""

    def __init__(self, render: Callable[[], Image]) -> None:
        self.render = render

    def read(self) -> Frame:
        """Render now."""
        taken = time.monotonic()
        return Frame(self.render(), taken)

    def close(self) -> None:
        """Nothing to let go of."""


class SequenceCamera:
    """The pictures of a folder (sorted by name) or of a video file, one a read.

    Args:
        path: folder of PNG or JPEG files, or a video.
        size: height and width to scale to [px].
        live: False gives pictures as fast as they are asked for; True waits as a camera does, by
            the video's own timestamps or, in a folder, by `fps`.
        fps: pictures a second of a folder that plays live.

    Raises:
        CameraError: no pictures there.
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
            raise CameraError(f"No pictures at {source}: give a video or a folder of PNG or JPEG")
        self.live, self._began = live, 0.0
        self.frames = self._decode(files, size, 0.0 if source.is_file() else 1.0 / fps)

    @staticmethod
    def _decode(
        files: list[Path], size: tuple[int, int] | None, period_s: float
    ) -> Generator[tuple[Image, float]]:
        """Pictures, each with when it is due [s]; a period of 0 stands for the video's own."""
        for index, file in enumerate(files):
            try:
                with av.open(str(file)) as container:
                    for frame in container.decode(video=0):
                        height, width = size or (frame.height, frame.width)
                        image = frame.to_ndarray(format="rgb24", width=width, height=height)
                        yield image, index * period_s if period_s else float(frame.time or 0.0)
            except av.error.FFmpegError as error:
                raise CameraError(f"{file} cannot be decoded ({error})") from error

    def read(self) -> Frame:
        """Next picture, stamped now.

        Raises:
            CameraError: at the end.
        """
        found = next(self.frames, None)
        if found is None:
            raise CameraError("The recorded pictures have come to their end")
        image, due_s = found
        if self.live:
            self._began = self._began or time.monotonic() - due_s
            time.sleep(max(0.0, self._began + due_s - time.monotonic()))
        return Frame(image, time.monotonic())

    def close(self) -> None:
        """Close the file."""
        self.frames.close()


class OpenCVCamera:
    """A UVC camera or a network stream through OpenCV; needs the `robot` extra.

    A stream's frames are stamped when they arrive: what the network and the sender add is not
    known.

    Args:
        source: number or device of a camera, file, or address (`http://`, `rtsp://`).
        size: height and width to scale to [px].
        timeout_s: how long a stream may take to open, or for one frame; a device's own time-out
            (10 s on Linux) cannot be set.

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
            raise CameraError(f"Camera {source!r} cannot be opened: is it plugged in and unused?")
        self.device.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self) -> Frame:
        """Next frame of the device.

        Raises:
            CameraError: the device gives none.
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
        """Let go of the device; never while another thread is in `read` (OpenCV would crash)."""
        self.device.release()


class CheckedCamera:
    """Refuses frames that no plan may be made from.

    Args:
        camera: any camera.
        max_age_s: oldest frame allowed.
        frozen_s: identical frames for this long mean that the camera hangs; sensors are noisy,
            renderers are not: give infinity for a simulation at rest.
        dark: mean brightness (0..255) under which a frame counts as black.
    """

    def __init__(
        self, camera: Camera, *, max_age_s: float = 0.2, frozen_s: float = 0.5, dark: float = 4.0
    ) -> None:
        self.camera, self.max_age_s, self.frozen_s, self.dark = camera, max_age_s, frozen_s, dark
        self._last: Frame | None = None
        """The first of the identical frames."""

    def read(self) -> Frame:
        """Newest frame, if it is fit for planning.

        Raises:
            CameraError: it is too old, black, or the same as for `frozen_s` before.
        """
        frame = self.camera.read()
        age = time.monotonic() - frame.time_s
        if age > self.max_age_s:
            raise CameraError(f"The newest frame is {age:.2f} s old, at most {self.max_age_s} s")
        if float(frame.image.mean()) < self.dark:
            raise CameraError("The camera's picture is black: is the cap on, the light off?")
        last = self._last
        if last is None or not np.array_equal(last.image, frame.image):
            self._last = frame
        elif frame.time_s - last.time_s > self.frozen_s:
            same = frame.time_s - last.time_s
            raise CameraError(f"The camera's picture has not changed for {same:.2f} s: it hangs")
        return frame

    def close(self) -> None:
        """Let go of the camera."""
        self.camera.close()
