"""Read the fields of messages that anybody may have sent."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from planning.errors import PlanError
from planning.remote.wire import Message

MAX_SIDE_PX = 4096


def get(message: Message, name: str) -> object:
    """Return a field.

    Raises:
        PlanError: The message has no such field.
    """
    if name not in message:
        raise PlanError(f"The message has no field {name!r}. It has: {', '.join(message)[:300]}")
    return message[name]


def as_image(value: object, name: str) -> NDArray[np.uint8]:
    """Return an RGB image [H, W, 3].

    Raises:
        PlanError: The value is no such array of uint8.
    """
    shape: tuple[int, ...] = value.shape if isinstance(value, np.ndarray) else ()
    good = len(shape) == 3 and shape[2] == 3 and all(1 <= n <= MAX_SIDE_PX for n in shape[:2])
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or not good:
        found = f"{value.dtype} {shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise PlanError(
            f"{name} is {found}. Allowed: an RGB image of uint8, [H, W, 3], channels last, with "
            f"sides up to {MAX_SIDE_PX} px"
        )
    return value


def as_numbers(value: object, name: str, *shape: int) -> NDArray[np.float64]:
    """Return finite numbers of a shape, given as an array or as lists.

    Raises:
        PlanError: The value has another shape, is not numeric, or holds NaN or infinity.
    """
    try:
        found = np.asarray(value)
        numbers = found.astype(np.float64) if found.dtype.kind in "iuf" else None
    except (ValueError, TypeError, OverflowError):
        numbers = None
    sizes = " x ".join(map(str, shape))
    if numbers is None or numbers.shape != shape:
        what = "no numbers" if numbers is None else f"the shape {numbers.shape}"
        raise PlanError(f"{name} has {what}. Allowed: {sizes} finite numbers")
    if not np.isfinite(numbers).all():
        raise PlanError(f"{name} holds NaN or infinity. Allowed: {sizes} finite numbers")
    return numbers


def as_number(value: object, name: str, low: float, high: float) -> float:
    """Return a number of a range.

    Raises:
        PlanError: The value is not a number from `low` to `high`.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= float(value) <= high:  # type: ignore[arg-type]
        raise PlanError(f"{name} is {str(value)[:60]}. Allowed: {low:.10g} to {high:.10g}")
    return float(value)  # type: ignore[arg-type]


def as_whole(value: object, name: str, low: int, high: int) -> int:
    """Return a whole number of a range.

    Raises:
        PlanError: The value is not a whole number from `low` to `high`.
    """
    if type(value) is not int or not low <= value <= high:
        raise PlanError(f"{name} is {str(value)[:60]}. Allowed: whole numbers, {low} to {high}")
    return value


def as_text(value: object, name: str, longest: int = 200) -> str:
    """Return a text.

    Raises:
        PlanError: The value is not text, or too long.
    """
    if not isinstance(value, str) or len(value) > longest:
        raise PlanError(f"{name} must be a text of at most {longest} characters")
    return value


def number_or_nan(value: object) -> float:
    """Return a number, and NaN for everything else."""
    return float(value) if isinstance(value, int | float) else math.nan
