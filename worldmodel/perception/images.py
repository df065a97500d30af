"""Image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldmodel.errors import DataError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
"""File suffixes of images."""


def is_image(path: Path) -> bool:
    """Return whether a file has the suffix of an image."""
    return path.suffix.lower() in IMAGES


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB [H, W, 3].

    Raises:
        DataError: the file is missing or damaged; the message names it.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
