"""Convert pictures to 8-bit RGB as they are shown.

The same conversion as `worldmodel.data.pictures`, which this package does not import;
tests/contracts/test_pictures.py compares the two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from planning.errors import PlanError

DEEP_FORMATS = {"PNG", "PPM"}
"""Formats whose pictures of mode `I` have values from 0 to 65535; elsewhere the range is open."""
DIRECT = {"1", "L", "P", "RGB", "RGBX", "YCbCr", "CMYK", "HSV"}
"""Modes that Pillow converts to RGB without loss of meaning."""
WITH_ALPHA = {"RGBA", "LA", "PA"}


def rgb_frame(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a picture of any mode to uint8 RGB [H, W, 3], turned as its EXIF orientation says.

    Values of 16 bits are scaled to 8; Pillow alone would clip them to white.

    Raises:
        ValueError: The mode has no defined range of values, or a pixel is transparent.
    """
    file_format = image.format
    image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and file_format in DEEP_FORMATS):
        grey_HW = np.asarray(image).astype(np.uint32)
        eight_HW = ((grey_HW * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(eight_HW[..., None], 3, axis=2)
    if mode not in DIRECT | WITH_ALPHA:
        raise ValueError(
            f"its mode is {mode} ({file_format or 'unknown format'}), whose range of values is not "
            "defined; save it with 8 or 16 bits a channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise ValueError(
                "it has transparent pixels, whose colour depends on the background; flatten it"
            )
    return np.array(image.convert("RGB"))


def fit_picture(
    image: NDArray[np.uint8], transform: str, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return an image [H, W, 3] about as a model sees it, for people.

    The model's own transform (`worldmodel.models.preprocess`) needs torch; this one has the same
    region up to a pixel, and Pillow's interpolation.

    Args:
        image: RGB of any size.
        transform: `droid` (at most 1.35 times as wide as high), `published`, `center_crop` or
            `squeeze`.
        size: Height and width [px].
    """
    height, width = image.shape[:2]
    rows, columns = float(height), float(width)
    if transform == "droid":
        columns, rows = min(columns, rows * 1.35), min(rows, columns / 0.75)
    elif transform in ("published", "center_crop"):
        zoom = 256 / 224 if transform == "published" else max(size) / min(size)
        short = min(height, width) / (min(size) * zoom)
        rows, columns = min(rows, size[0] * short), min(columns, size[1] * short)
    top, left = (height - rows) / 2, (width - columns) / 2
    region = (left, top, left + columns, top + rows)
    shown = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR, box=region)
    return np.array(shown)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as RGB uint8 [H, W, 3], see `rgb_frame`.

    Raises:
        PlanError: The file is missing, not an image, or of an unsupported mode.
    """
    if path.exists() and not path.is_file():
        raise PlanError(f"{path} cannot be read as an image: it is not a regular file")
    try:
        with Image.open(path) as image:
            return rgb_frame(image)
    except Exception as error:  # Pillow's readers raise errors of any kind
        raise PlanError(f"{path} cannot be read as an image: {error}") from error
