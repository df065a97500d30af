"""Random views of clips and images for the training of probes, as published.

Videos: RandAugment, a random crop resized to the model's size, a flip where the recipe has one,
random erasing. Images: a random crop, a flip, AutoAugment, random erasing. All frames of a clip are
changed alike, except for the noise in the erased rectangle. The views are uint8, so that they agree
with the published ones up to half a grey level, and erasing noise ends at black and white.

Sources: V-JEPA (arXiv 2404.08471), appendix on evaluation; random erasing: arXiv 1708.04896.

Shapes: T frames, H W pixels, C 3 channels RGB.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.random import RandomState
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from worldmodel.models.preprocess import check_frames
from worldmodel.perception.pixel_operations import Canvas, Change, auto_augment, random_augment
from worldmodel.specs import IMAGENET_MEAN, IMAGENET_STD

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
"""Ranges of a crop's share of the picture and of its width by its height."""
ERASED, ERASED_ASPECT, ERASING = (0.02, 1 / 3), (0.3, 1 / 0.3), 0.25
"""Ranges of the erased share and of its height by its width; probability of erasing."""
TRIES, ERASE_TRIES = 10, 100
GREY = (128, 128, 128)
MEAN = tuple(round(255 * value) for value in IMAGENET_MEAN)


def training_view(
    frames_THWC: Tensor, crop: int, draw: RandomState, *, flip: bool, is_image: bool = False
) -> Tensor:
    """Return a random view of a clip or an image.

    Args:
        frames_THWC: uint8 RGB frames of any size.
        crop: Side of the view [px].
        draw: Random generator.
        flip: Whether to mirror half of the views.
        is_image: Whether to use the transforms of images.

    Returns:
        uint8 [T, crop, crop, 3].

    Raises:
        ShapeError: The rank, channels or dtype are wrong.
    """
    frames = check_frames(frames_THWC)
    if is_image:
        rows, columns = draw_crop(frames.shape[1], frames.shape[2], draw)
        pictures = [
            Image.fromarray(frame).resize((crop, crop), Image.Resampling.BICUBIC)
            for frame in frames[:, rows, columns].contiguous().numpy()
        ]
        mirrored = flip and draw.random_sample() < 0.5
        changes = auto_augment(draw, Canvas((MEAN[0], MEAN[1], MEAN[2])))
        view = _changed(pictures, changes)
        view = view.flip(2) if mirrored else view
    else:
        changes = random_augment(draw, Canvas(GREY))
        view = _changed([Image.fromarray(frame) for frame in frames.numpy()], changes)
        rows, columns = draw_crop(frames.shape[1], frames.shape[2], draw)
        view = _resized(view[:, rows, columns], crop)
        view = view.flip(2) if flip and draw.random_sample() < 0.5 else view
    return erase(view, draw) if draw.random_sample() < ERASING else view


def _changed(pictures: list[Image.Image], changes: list[Change]) -> Tensor:
    for change in changes:
        pictures = [change(picture) for picture in pictures]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def _resized(frames_THWC: Tensor, side: int) -> Tensor:
    """Resize bilinearly without antialias, as published."""
    pixels = frames_THWC.permute(0, 3, 1, 2).float()
    view = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
    return view.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _drawn_size(area: float, limits: tuple[float, float], draw: RandomState) -> tuple[float, float]:
    """Return the sides of a rectangle of an area, first by second within the limits (log)."""
    aspect = math.exp(draw.uniform(math.log(limits[0]), math.log(limits[1])))
    return math.sqrt(area * aspect), math.sqrt(area / aspect)


def draw_crop(height: int, width: int, draw: RandomState) -> tuple[slice, slice]:
    """Draw the rows and columns of a crop; the centre where none of ten draws fits."""
    for _ in range(TRIES):
        wide, high = (
            round(side) for side in _drawn_size(draw.uniform(*AREA) * height * width, ASPECT, draw)
        )
        if 0 < wide <= width and 0 < high <= height:
            top, left = draw.randint(height - high + 1), draw.randint(width - wide + 1)
            return slice(top, top + high), slice(left, left + wide)
    high = min(height, round(width / ASPECT[0]))
    wide = min(width, round(height * ASPECT[1]))
    top, left = (height - high) // 2, (width - wide) // 2
    return slice(top, top + high), slice(left, left + wide)


def erase(view_THWC: Tensor, draw: RandomState) -> Tensor:
    """Return a view with one rectangle, the same in all frames, of normal noise."""
    frames, height, width, channels = view_THWC.shape
    for _ in range(ERASE_TRIES):
        area = draw.uniform(*ERASED) * height * width
        high, wide = (round(side) for side in _drawn_size(area, ERASED_ASPECT, draw))
        if 0 < high < height and 0 < wide < width:
            top, left = draw.randint(height - high + 1), draw.randint(width - wide + 1)
            noise = draw.normal(size=(frames, high, wide, channels))
            pixels = 255 * (noise * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN))
            view = view_THWC.clone()
            view[:, top : top + high, left : left + wide] = torch.from_numpy(
                pixels.round().clip(0, 255).astype(np.uint8)
            )
            return view
    return view_THWC
