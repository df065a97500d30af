"""Evaluation transform of the published probes: resize, then a centre crop or several views.

`resize_as_opencv` gives OpenCV's pixels (INTER_LINEAR on uint8), bit for bit, without OpenCV.

Shapes: V views, T frames, H W pixels, C 3 channels RGB.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.errors import ConfigError
from worldmodel.models.preprocess import SHORT_SIDE, check_frames

BITS = 11
"""Fractional bits of OpenCV's interpolation weights."""


def _taps(
    source: int, target: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the lower neighbour, its distance, and both weights, of every target pixel."""
    scale = 1.0 / (target / source)
    at = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    low = np.floor(at).astype(np.int64)
    return low, (at - low).astype(np.float32), _weights((at - low).astype(np.float32))


def _weights(distance: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    one = np.float32(2**BITS)
    high = np.rint(distance * one).astype(np.int64)
    return np.rint((np.float32(1) - distance) * one).astype(np.int64), high


def resize_as_opencv(frames_THWC: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 frames [T, H, W, C] bilinearly, without antialias, in OpenCV's integers.

    OpenCV gives border columns the full weight of the last pixel and rounds rows by 4, 16 and 2
    bits in turn; the same steps are needed for identical pixels.
    """
    rows, columns = frames_THWC.shape[1:3]
    if (rows, columns) == (height, width):
        return frames_THWC
    left, distance, _ = _taps(columns, width)
    distance[(left < 0) | (left >= columns - 1)] = 0
    left = left.clip(0, columns - 1)
    w0, w1 = (torch.from_numpy(w).to(torch.int32)[:, None] for w in _weights(distance))
    source = frames_THWC.to(torch.int32)
    right = torch.from_numpy((left + 1).clip(max=columns - 1))
    wide = source[:, :, torch.from_numpy(left)] * w0 + source[:, :, right] * w1
    top, _, (v0, v1) = _taps(rows, height)
    out = torch.full((1,), 2, dtype=torch.int32)
    for offset, weights in ((0, v0), (1, v1)):
        picked = wide[:, torch.from_numpy((top + offset).clip(0, rows - 1))] >> 4
        out = out + ((picked * torch.from_numpy(weights).to(torch.int32)[:, None, None]) >> 16)
    return (out >> 2).clamp(0, 255).to(torch.uint8)


def evaluation_views(frames_THWC: Tensor, crop: int, num_views: int = 1) -> Tensor:
    """Cut the views of a clip for the evaluation of a published probe.

    One view: the short side becomes 256/224 of the crop, then the centre is cut out. Several: the
    short side becomes the crop, and views are spread evenly along the long side.

    Args:
        frames_THWC: uint8 RGB frames of any size.
        crop: Side of a view [px].
        num_views: Number of views.

    Returns:
        uint8 [V, T, crop, crop, 3].

    Raises:
        ShapeError: The rank, channels or dtype are wrong.
        ConfigError: `crop` or `num_views` is less than 1.
    """
    frames = check_frames(frames_THWC)
    if crop < 1 or num_views < 1:
        raise ConfigError(f"crop={crop}, num_views={num_views}: both must be at least 1")
    rows, columns = frames.shape[1:3]
    short = crop if num_views > 1 else int(crop * SHORT_SIDE)
    height, width = short, int(short * columns / rows)
    if columns < rows:
        height, width = int(short * rows / columns), short
    resized = resize_as_opencv(frames, height, width)
    if num_views == 1:
        corners = [(round((height - crop) / 2), round((width - crop) / 2))]
    else:
        stride = (max(height, width) - crop) // (num_views - 1)
        along = [i * stride for i in range(num_views)]
        corners = [(0, at) if width >= height else (at, 0) for at in along]
    return torch.stack([resized[:, y : y + crop, x : x + crop] for y, x in corners])
