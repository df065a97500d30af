"""Colour and geometry operations of RandAugment and AutoAugment, by strength.

A strength is a number from 0 to 10. Every operation returns a function of a picture, so that all
frames of a clip are changed alike.

Sources: RandAugment (arXiv 1909.13719) with operations that grow with the strength, and
AutoAugment's policy for ImageNet (arXiv 1805.09501), with the ranges that the V-JEPA papers used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageEnhance, ImageOps

Picture = Image.Image
Change = Callable[[Picture], Picture]
Colour = tuple[int, int, int]
SHEAR, TURN_DEG, SHIFT = 0.3, 30.0, 0.45
"""Maximum shear, rotation, and translation as a share of the picture."""
LEVELS = 10.0
"""Maximum strength."""


@dataclass(frozen=True)
class Canvas:
    """What geometry operations fill in and how they interpolate."""

    fill: Colour
    """Colour of what was outside the picture."""
    resample: Image.Resampling = Image.Resampling.BICUBIC


def _sign(draw: RandomState, value: float) -> float:
    return -value if draw.random_sample() > 0.5 else value


def _affine(canvas: Canvas, matrix: Callable[[Picture], tuple[float, ...]]) -> Change:
    def change(picture: Picture) -> Picture:
        return picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            matrix(picture),
            resample=canvas.resample,
            fillcolor=canvas.fill,
        )

    return change


def _shear_x(strength: float, draw: RandomState, canvas: Canvas) -> Change:
    by = _sign(draw, strength / LEVELS * SHEAR)
    return _affine(canvas, lambda _: (1, by, 0, 0, 1, 0))


def _shear_y(strength: float, draw: RandomState, canvas: Canvas) -> Change:
    by = _sign(draw, strength / LEVELS * SHEAR)
    return _affine(canvas, lambda _: (1, 0, 0, by, 1, 0))


def _shift_x(strength: float, draw: RandomState, canvas: Canvas) -> Change:
    by = _sign(draw, strength / LEVELS * SHIFT)
    return _affine(canvas, lambda picture: (1, 0, by * picture.width, 0, 1, 0))


def _shift_y(strength: float, draw: RandomState, canvas: Canvas) -> Change:
    by = _sign(draw, strength / LEVELS * SHIFT)
    return _affine(canvas, lambda picture: (1, 0, 0, 0, 1, by * picture.height))


def _turn(strength: float, draw: RandomState, canvas: Canvas) -> Change:
    degrees = _sign(draw, strength / LEVELS * TURN_DEG)
    return lambda picture: picture.rotate(degrees, resample=canvas.resample, fillcolor=canvas.fill)


def _fixed(change: Change) -> Callable[[float, RandomState, Canvas], Change]:
    """Return an operation without strength."""
    return lambda _strength, _draw, _canvas: change


def _posterise(bits: Callable[[float], int]) -> Callable[[float, RandomState, Canvas], Change]:
    def operation(strength: float, _draw: RandomState, _canvas: Canvas) -> Change:
        kept = bits(strength)
        return lambda picture: picture if kept >= 8 else ImageOps.posterize(picture, kept)

    return operation


def _solarise(threshold: Callable[[float], int]) -> Callable[[float, RandomState, Canvas], Change]:
    def operation(strength: float, _draw: RandomState, _canvas: Canvas) -> Change:
        return lambda picture: ImageOps.solarize(picture, threshold(strength))

    return operation


def _solarise_add(strength: float, _draw: RandomState, _canvas: Canvas) -> Change:
    """Brighten the dark half of the values."""
    add = int(strength / LEVELS * 110)
    table = [min(255, value + add) if value < 128 else value for value in range(256)]
    return lambda picture: picture.point(table * len(picture.getbands()))


Operation = Callable[[float, RandomState, Canvas], Change]


def _enhance(kind: Callable[[Picture], ImageEnhance._Enhance], *, both: bool) -> Operation:
    """Return an enhancement: up and down from 1 with the strength, or from 0.1 to 1.9."""

    def operation(strength: float, draw: RandomState, _canvas: Canvas) -> Change:
        share = strength / LEVELS
        factor = 1.0 + _sign(draw, 0.9 * share) if both else 0.1 + 1.8 * share
        return lambda picture: kind(picture).enhance(factor)

    return operation


COMMON: dict[str, Operation] = {
    "autocontrast": _fixed(ImageOps.autocontrast),
    "equalise": _fixed(ImageOps.equalize),
    "invert": _fixed(ImageOps.invert),
    "turn": _turn,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "shift_x": _shift_x,
    "shift_y": _shift_y,
}
RANDOM: dict[str, Operation] = COMMON | {
    "posterise": _posterise(lambda s: max(1, 4 - int(s / LEVELS * 4))),
    "solarise": _solarise(lambda s: 256 - int(s / LEVELS * 256)),
    "solarise_add": _solarise_add,
    "colour": _enhance(ImageEnhance.Color, both=True),
    "contrast": _enhance(ImageEnhance.Contrast, both=True),
    "brightness": _enhance(ImageEnhance.Brightness, both=True),
    "sharpness": _enhance(ImageEnhance.Sharpness, both=True),
}
"""RandAugment's operations, all of which change a picture more at a larger strength."""
AUTO: dict[str, Operation] = COMMON | {
    "posterise": _posterise(lambda s: 4 + int(s / LEVELS * 4)),
    "solarise": _solarise(lambda s: min(256, int(s / LEVELS * 256))),
    "colour": _enhance(ImageEnhance.Color, both=False),
    "contrast": _enhance(ImageEnhance.Contrast, both=False),
    "sharpness": _enhance(ImageEnhance.Sharpness, both=False),
}
"""AutoAugment's operations."""
Step = tuple[str, float, float]
POLICY: tuple[tuple[Step, Step], ...] = (
    (("posterise", 0.4, 8), ("turn", 0.6, 9)),
    (("solarise", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalise", 0.8, 8), ("equalise", 0.6, 3)),
    (("posterise", 0.6, 7), ("posterise", 0.6, 6)),
    (("equalise", 0.4, 7), ("solarise", 0.2, 4)),
    (("equalise", 0.4, 4), ("turn", 0.8, 8)),
    (("solarise", 0.6, 3), ("equalise", 0.6, 7)),
    (("posterise", 0.8, 5), ("equalise", 1.0, 2)),
    (("turn", 0.2, 3), ("solarise", 0.6, 8)),
    (("equalise", 0.6, 8), ("posterise", 0.4, 6)),
    (("turn", 0.8, 8), ("colour", 0.4, 0)),
    (("turn", 0.4, 9), ("equalise", 0.6, 2)),
    (("equalise", 0.0, 7), ("equalise", 0.8, 8)),
    (("invert", 0.6, 4), ("equalise", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("turn", 0.8, 8), ("colour", 1.0, 2)),
    (("colour", 0.8, 8), ("solarise", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalise", 1.0, 9)),
    (("colour", 0.4, 0), ("equalise", 0.6, 3)),
    (("equalise", 0.4, 7), ("solarise", 0.2, 4)),
    (("solarise", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalise", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalise", 0.8, 8), ("equalise", 0.6, 3)),
)
"""AutoAugment's policy for ImageNet: pairs of an operation, its probability and its strength."""
NUM_OPERATIONS, PROBABILITY = 4, 0.5
"""Number of operations that RandAugment draws, and probability that each is applied."""
STRENGTH, SPREAD = 7.0, 0.5
"""Mean and standard deviation of RandAugment's strength."""


def random_augment(draw: RandomState, canvas: Canvas) -> list[Change]:
    """Draw RandAugment's changes of a clip; the same operation may come twice."""
    changes = []
    for name in draw.choice(list(RANDOM), NUM_OPERATIONS):
        if draw.random_sample() <= PROBABILITY:
            strength = float(np.clip(draw.normal(STRENGTH, SPREAD), 0, LEVELS))
            changes.append(RANDOM[str(name)](strength, draw, canvas))
    return changes


def auto_augment(draw: RandomState, canvas: Canvas) -> list[Change]:
    """Draw AutoAugment's changes: one pair of its policy, each operation with its probability."""
    pair = POLICY[draw.randint(len(POLICY))]
    return [
        AUTO[name](strength, draw, canvas)
        for name, probability, strength in pair
        if draw.random_sample() <= probability
    ]
