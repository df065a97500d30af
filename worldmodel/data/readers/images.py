"""Frames that are stored as one encoded image for each control step (RLDS, LeRobot)."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from worldmodel.data.episode import EpisodeError, Frames
from worldmodel.data.pictures import rgb_frame
from worldmodel.data.readers.options import ReadOptions

T = TypeVar("T")
MAX_PIXELS = 2**25
"""Maximum number of pixels of an image, which its header declares."""


@dataclass(frozen=True)
class JpegFrames:
    """Encoded images of one camera, one per control step."""

    images: tuple[bytes, ...]
    """Encoded JPEG or PNG images."""
    size: tuple[int, int] | None = None
    """Height and width [px]."""

    def __len__(self) -> int:
        """Return the number of frames of the episode."""
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """Return the size of the encoded images [bytes]."""
        return sum(map(len, self.images))

    def read(self, steps: NDArray[np.int64]) -> Frames:
        """Decode the frames [K, H, W, 3] of some steps.

        Raises:
            EpisodeError: An image is damaged or missing.
        """
        if len(steps) and int(steps.max()) >= len(self.images):
            raise EpisodeError("video_too_short", f"no frame {int(steps.max())}")
        return np.stack([decode_image(self.images[int(step)]) for step in steps])


def decode_image(data: bytes) -> Frames:
    """Decode an image to RGB [H, W, 3], see `rgb_frame`.

    Raises:
        EpisodeError: The image is damaged, too large, or of an unsupported mode.
    """
    return _opened(data, _frame)


def _frame(image: Image.Image) -> Frames:
    """Return the pixels of an image; a plain one is not copied by a conversion."""
    return np.array(image) if _is_plain(image) else rgb_frame(image)


def _opened(data: bytes, use: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.size} pixels; at most {MAX_PIXELS} in all are allowed")
            return use(image)
    except Exception as error:  # Pillow's readers raise errors of any kind
        raise EpisodeError("image_damaged", f"an image cannot be decoded: {error}") from error


def _is_plain(image: Image.Image) -> bool:
    """Return whether the stored pixels are those shown: opaque RGB, right side up."""
    opaque = image.mode == "RGB" and "transparency" not in image.info
    return opaque and image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def _size(image: Image.Image) -> tuple[int, int]:
    """Decode an image as `rgb_frame` would; return its height and width [px].

    Plain RGB images are not converted, which takes a quarter of the time.
    """
    if _is_plain(image):
        image.load()
        return image.height, image.width
    height, width, _ = rgb_frame(image).shape
    return height, width


def encoded_frames(images: tuple[bytes, ...], view: str, options: ReadOptions) -> JpegFrames:
    """Return the frames of a view, inspected as the options say.

    Raises:
        EpisodeError: An image is damaged, or they differ in size.
    """
    inspected = images if options.inspect and options.decode else images[:1]
    sizes = {_opened(image, _size) for image in inspected}
    if len(sizes) > 1:
        raise EpisodeError("frame_size", f"{view} has frames of sizes {sorted(sizes)}")
    return JpegFrames(images, next(iter(sizes), None))
