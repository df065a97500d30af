"""Options and labels of made clips of moving shapes, without NumPy and torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError

SHAPES = ("disc", "square", "triangle", "cross", "ring", "star", "bar", "ell")
DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")
SPEEDS = ("slow", "fast")
SPEED_PX = ((1.0, 1.6), (2.6, 3.6))
"""Range of each speed [px a frame]."""
LABELS = {"shape": SHAPES, "direction": DIRECTIONS, "speed": SPEEDS}
"""Label -> its classes. The fourth label, `position`, is the centre (x, y) in the middle frame, as
fractions of the side."""
Event = Literal["vanishes", "jumps", "appears"]
EVENTS: tuple[Event, ...] = ("vanishes", "jumps", "appears")
MARGIN = 8.0
"""Minimum distance from a shape's centre to the border [px]."""


@dataclass(frozen=True, kw_only=True)
class ShapeClipOptions(Checked):
    """A made set of moving shapes."""

    num_clips: int = field(default=200_000, metadata=between(1, 2**31 - 1, "clips"))
    """Number of different clips."""
    num_frames: int = field(default=6, metadata=between(2, 64, "frames"))
    """Number of frames per clip."""
    side: int = field(default=40, metadata=between(24, 512, "px"))
    """Height and width of the frames."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of textures, shapes and paths."""

    def __post_init__(self) -> None:
        """Check that a fast shape finds room.

        Raises:
            ConfigError: An option is out of range, or the frames are too small for the clip.
        """
        super().__post_init__()
        room = self.side - 1 - 2 * MARGIN
        path = SPEED_PX[0][0] * (self.num_frames - 1)
        if path > room:
            raise ConfigError(
                f"num_frames={self.num_frames} is too long for frames of side={self.side} px: the "
                f"slowest shape moves {path:g} px and has {room:g}. Give fewer frames or more px"
            )


@dataclass(frozen=True, kw_only=True)
class ShapeVideoOptions(Checked):
    """A set of videos of moving shapes."""

    out: str = "runs/shape_videos"
    """Folder of the set. A second run of the same options adds what is missing."""
    label: Literal["direction", "shape", "speed"] = "direction"
    """Label by which the class folders are named."""
    train: int = field(default=240, metadata=between(0, 1_000_000, "videos"))
    """Number of training videos."""
    val: int = field(default=80, metadata=between(0, 1_000_000, "videos"))
    """Number of held-out videos, of other textures and paths."""
    pairs: int = field(default=12, metadata=between(0, 100_000))
    """Number of pairs of a possible and an impossible video, for each kind of event."""
    images: int = field(default=160, metadata=between(0, 1_000_000, "images"))
    """Number of training images; a quarter as many are held out."""
    num_frames: int = field(default=12, metadata=between(2, 64, "frames"))
    """Number of frames per video."""
    side: int = field(default=40, metadata=between(24, 512, "px"))
    """Height and width of the videos; an even number."""
    seed: int = field(default=0, metadata=between(0, 1_000_000))
    """Seed of textures, shapes and paths."""

    def __post_init__(self) -> None:
        """Check the size, which the codec wants even, and that a shape finds room.

        Raises:
            ConfigError: An option is out of range.
        """
        super().__post_init__()
        ShapeClipOptions(num_frames=self.num_frames, side=self.side)
        if self.side % 2:
            raise ConfigError(f"side={self.side} is odd, and H.264 takes even sizes: add a pixel")
