"""Options of `worldmodel data dense`; imports neither MuJoCo nor PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.config import CameraName, Fidelity
from robot.ranges import between, check_ranges

CLASSES = ("floor", "table", "arm", "hand", "object", "wall")
"""Names of the class numbers, from 0."""


@dataclass(frozen=True, kw_only=True)
class DenseSetOptions:
    """Rendered images with the depth and the class of every pixel."""

    out: str = "runs/dense_set"
    """Folder of the set. A second run of the same options adds what is missing."""
    train: int = field(default=400, metadata=between(0, 1_000_000, "images"))
    """Number of training images."""
    val: int = field(default=100, metadata=between(0, 1_000_000, "images"))
    """Number of unseen images, of other appearances and places."""
    image_size: int = field(default=128, metadata=between(16, 4096, "px"))
    """Height and width of the images."""
    camera: CameraName = "left"
    """Camera that takes the images."""
    fidelity: Fidelity = "fast"
    """Appearance of the arm: collision meshes (fast), or detailed meshes (visual)."""
    seed: int = field(default=0, metadata=between(0, 1_000_000))
    """Seed of scenes and appearances."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: A value is out of its range or not among its choices.
        """
        check_ranges(self)
