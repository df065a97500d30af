"""Show an image beside maps of its pixels: the truth, or a prediction.

Shapes: H W pixels, C channels.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from worldmodel.perception.dense.labelled_images import VOID

GOLDEN = 0.618034
"""Step of the hue from class to class, so that neighbouring numbers differ."""


def _colour(number: int) -> tuple[int, int, int]:
    if number == VOID:
        return (0, 0, 0)
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.65, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _classes(numbers_HW: Tensor) -> np.ndarray:
    palette = np.array([_colour(number) for number in range(256)], np.uint8)
    return palette[numbers_HW.clamp(0, 255).numpy()]


def _depths(depth_HW: Tensor, low: float, high: float) -> np.ndarray:
    """Return near pixels bright, far ones dark and unknown ones black."""
    share = ((high - depth_HW) / max(1e-6, high - low)).clamp(0, 1)
    grey = torch.where(depth_HW.isfinite(), 40 + 215 * share, 0.0).nan_to_num().round()
    return grey.to(torch.uint8).numpy()[..., None].repeat(3, axis=2)


def write_picture(path: Path, frame_HWC: Tensor, maps: Sequence[Tensor]) -> None:
    """Write an image and maps of it beside each other.

    Args:
        path: File to write.
        frame_HWC: The image, uint8.
        maps: Depths [H, W] in metres, all on the scale of the first, or class numbers, int64.
    """
    if maps[0].is_floating_point():
        known = maps[0][maps[0].isfinite()]
        low, high = float(known.min()), float(known.max())
        shown = [_depths(depth, low, high) for depth in maps]
    else:
        shown = [_classes(numbers) for numbers in maps]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([frame_HWC.numpy(), *shown], axis=1)).save(path)
