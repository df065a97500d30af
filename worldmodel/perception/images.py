"""Image files."""

from __future__ import annotations

from pathlib import Path

from worldmodel.data.image_folder import SUFFIXES

IMAGES = SUFFIXES
"""File suffixes of images, the same for training and evaluation."""


def is_image(path: Path) -> bool:
    """Return whether a file has the suffix of an image."""
    return path.suffix.lower() in IMAGES
