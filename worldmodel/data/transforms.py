"""Frames of any size -> frames of a model's size: one transform for training and serving.

Scaling to 0..1, mean and standard deviation are the model's part (`Convention`).

Shapes: H W pixels of the source, C 3 channels RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.errors import ConfigError, ShapeError

Kind = Literal["published", "droid", "squeeze"]
SHORT_SIDE = 256 / 224
"""Published: the short side is resized to this times the crop."""
WIDEST, TALLEST = 1.35, 0.75
"""DROID: aspect ratios outside are cropped to these, what is left is squeezed."""


def resize(frames_HWC: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, no antialias, half-pixel centres (as published): [..., H, W, C] float."""
    lead = frames_HWC.shape[:-3]
    maps = frames_HWC.reshape(-1, *frames_HWC.shape[-3:]).permute(0, 3, 1, 2).float()
    resized = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(*lead, height, width, -1)


def droid_region(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of what the DROID squeeze keeps (972 x 720 of 1280 x 720)."""
    rows, columns = height, width
    if width / height > WIDEST:
        columns = round(height * WIDEST)
    elif width / height < TALLEST:
        rows = round(width / TALLEST)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def check_frames(frames_HWC: Tensor) -> Tensor:
    """Frames as uint8 RGB [..., H, W, 3], or an error that says the mend.

    Raises:
        ShapeError: channels first, wrong dtype, or no pixels.
    """
    frames = torch.as_tensor(frames_HWC)
    if frames.ndim < 3 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ShapeError(
            f"frames have shape {tuple(frames.shape)}; wanted [..., H, W, 3]: channels come last"
        )
    if frames.dtype != torch.uint8:
        low, high = float(frames.min()), float(frames.max())
        raise ShapeError(
            f"frames are {frames.dtype} in {low:.3g}..{high:.3g}; wanted uint8 RGB in 0..255: for "
            "0..1 use (frames * 255).round().astype('uint8'); OpenCV gives BGR: frames[..., ::-1]"
        )
    return frames


@dataclass(frozen=True)
class Preprocess:
    """A transform of frames to `size` (height, width) [px].

    `published`: short side to 256/224 of the crop, centre crop (the encoders' evaluation).
    `droid`: the deterministic crop of V-JEPA 2-AC: at most 1.35 wide, then squeezed.
    `squeeze`: the whole frame, squeezed.
    """

    kind: Kind
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"transform {self.kind!r}: known are {', '.join(get_args(Kind))}")
        if min(self.size) < 1:
            raise ConfigError(f"size {self.size}: wanted at least 1 pixel a side")

    def exact(self, frames_HWC: Tensor) -> Tensor:
        """As `__call__`, float in 0..255, before rounding to whole grey levels."""
        frames = check_frames(frames_HWC)
        height, width = frames.shape[-3:-1]
        if self.kind == "published":
            return self._published(frames, height, width)
        if self.kind == "droid":
            top, left, rows, columns = droid_region(height, width)
            frames = frames[..., top : top + rows, left : left + columns, :]
        return resize(frames, *self.size)

    def _published(self, frames: Tensor, height: int, width: int) -> Tensor:
        rows, columns = self.size
        short = int(min(self.size) * SHORT_SIDE)
        if height <= width:
            new = short, int(short * width / height)
        else:
            new = int(short * height / width), short
        if new[0] < rows or new[1] < columns:
            raise ShapeError(
                f"frames of {height} x {width} px become {new[0]} x {new[1]}, too small for a crop "
                f"of {rows} x {columns}: use transform=squeeze"
            )
        resized = resize(frames, *new)
        top, left = round((new[0] - rows) / 2), round((new[1] - columns) / 2)
        return resized[..., top : top + rows, left : left + columns, :]

    def __call__(self, frames_HWC: Tensor) -> Tensor:
        """Transform frames.

        Args:
            frames_HWC: uint8 RGB [..., H, W, 3].

        Returns:
            uint8 [..., size, 3].

        Raises:
            ShapeError: wrong rank, channels or dtype, or too small a frame.
        """
        frames = check_frames(frames_HWC)
        if tuple(frames.shape[-3:-1]) == self.size and self.kind != "published":
            return frames
        return self.exact(frames).round().clamp(0, 255).to(torch.uint8)
