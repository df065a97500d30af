"""Image files."""

from __future__ import annotations

from pathlib import Path

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
"""File suffixes of images."""


def is_image(path: Path) -> bool:
    """Return whether a file has the suffix of an image."""
    return path.suffix.lower() in IMAGES
