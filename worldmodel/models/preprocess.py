"""Image transform from any frame size to a model's, shared by training and planning.

Scaling to 0..1 and pixel statistics are applied afterwards, in `FrameEncoder.pixels`.

Shapes: H W pixels of the source, C 3 channels RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.checked import Checked, between
from worldmodel.errors import ShapeError
from worldmodel.specs import Transform

SHORT_SIDE = 256 / 224
"""Ratio of resized short side to crop in the published evaluation transform."""
WIDEST, TALLEST = 1.35, 0.75
"""Largest and smallest aspect ratio that the DROID transform squeezes without cropping."""


def resize(frames_HWC: Tensor, height: int, width: int) -> Tensor:
    """Resize [..., H, W, C] bilinearly to float, with half-pixel centres, without antialiasing.

    The published code does the same.
    """
    lead = frames_HWC.shape[:-3]
    maps = frames_HWC.reshape(-1, *frames_HWC.shape[-3:]).permute(0, 3, 1, 2).float()
    resized = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(*lead, height, width, -1)


def droid_region(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the region kept by the DROID transform.

    For 1280 x 720 it is 972 x 720.
    """
    rows, columns = height, width
    if width / height > WIDEST:
        columns = round(height * WIDEST)
    elif width / height < TALLEST:
        rows = round(width / TALLEST)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def check_frames(frames_HWC: Tensor) -> Tensor:
    """Check frames and return them as a uint8 RGB tensor [..., H, W, 3].

    Raises:
        ShapeError: The channels come first, the dtype is wrong, or there are no pixels.
    """
    frames = torch.as_tensor(frames_HWC)
    if frames.ndim < 3 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ShapeError(
            f"frames have shape {tuple(frames.shape)}; use [..., H, W, 3]: channels come last"
        )
    if frames.dtype != torch.uint8:
        low, high = float(frames.min()), float(frames.max())
        raise ShapeError(
            f"frames are {frames.dtype} in {low:.3g}..{high:.3g}; use uint8 RGB in 0..255: for "
            "0..1 use (frames * 255).round().astype('uint8'); OpenCV gives BGR: frames[..., ::-1]"
        )
    return frames


@dataclass(frozen=True)
class Preprocess(Checked):
    """Transform of frames to `size` (height, width) [px].

    `droid`: the deterministic crop of V-JEPA 2-AC: at most 1.35 times as wide as high, then
    squeezed. `published`: short side to 256/224 of the crop, then centre crop (the encoders'
    evaluation). `center_crop`: short side to the crop, then centre crop. `squeeze`: the whole
    frame, squeezed.
    """

    kind: Transform
    size: tuple[int, int] = field(metadata=between(1, 2**14, "px"))

    def exact(self, frames_HWC: Tensor) -> Tensor:
        """Transform frames to float in 0..255, without rounding to integers."""
        frames = check_frames(frames_HWC)
        height, width = frames.shape[-3:-1]
        if self.kind == "published":
            return self._crop(frames, height, width, SHORT_SIDE)
        if self.kind == "center_crop":
            return self._crop(frames, height, width, max(self.size) / min(self.size))
        if self.kind == "droid":
            top, left, rows, columns = droid_region(height, width)
            frames = frames[..., top : top + rows, left : left + columns, :]
        return resize(frames, *self.size)

    def _crop(self, frames: Tensor, height: int, width: int, ratio: float) -> Tensor:
        """Resize the short side to `ratio` times the shorter side of `size`, then crop."""
        rows, columns = self.size
        short = int(min(self.size) * ratio)
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
            ShapeError: The rank, channels or dtype are wrong, or the frame is too small.
        """
        frames = check_frames(frames_HWC)
        if tuple(frames.shape[-3:-1]) == self.size and self.kind != "published":
            return frames
        return self.exact(frames).round().clamp(0, 255).to(torch.uint8)
