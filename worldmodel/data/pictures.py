"""Read pictures as they are shown: right side up, 8 bits a channel, RGB.

`planning.pictures` has the same conversion for packages that do not import this one;
tests/contracts/test_pictures.py compares the two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from worldmodel.data.episode import Frames
from worldmodel.errors import DataError

DEEP_FORMATS = {"PNG", "PPM"}
"""Formats whose pictures of mode `I` have values from 0 to 65535; elsewhere the range is open."""
DIRECT = {"1", "L", "P", "RGB", "RGBX", "YCbCr", "CMYK", "HSV"}
"""Modes that Pillow converts to RGB without loss of meaning."""
WITH_ALPHA = {"RGBA", "LA", "PA"}


def rgb_frame(image: Image.Image) -> Frames:
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


def read_picture(path: Path) -> Frames:
    """Read a picture file as uint8 RGB [H, W, 3], see `rgb_frame`.

    Raises:
        DataError: The file is missing, damaged or of an unsupported mode; the message names it.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} cannot be read as an image: it is not a regular file")
    try:
        with Image.open(path) as image:
            return rgb_frame(image)
    except Exception as error:  # Pillow's readers raise errors of any kind
        raise DataError(f"{path} cannot be read as an image: {error}") from error
