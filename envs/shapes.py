"""Shapes of the objects, as boxes and cylinders.

In a shape's own frame z is up and a gripper at yaw 0, whose fingers open along y, closes on it at
the origin. The yaw of an object is therefore the yaw of a gripper that grips it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.errors import TaskError

Array = NDArray[np.float64]

NOMINAL_M = 0.022
"""Half width of the nominal cube [m]; appearances scale all shapes by their half width over it."""
ANY_YAW = 0.0
"""`Shape.yaw_period_rad` of a shape that looks the same from all sides."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A box or an upright cylinder."""

    size_m: tuple[float, float, float]
    """Half sizes of a box; radius, half height and 0 of a cylinder."""
    centre_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Position of its centre in the shape's frame."""
    is_round: bool = False
    """Whether it is a cylinder."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A body of one or several parts; the origin is at half its height."""

    parts: tuple[Part, ...]
    mass_kg: float = 0.06
    """Mass of all parts."""
    yaw_period_rad: float
    """Rotation about the vertical after which it looks the same; 0 if it is round."""
    is_hollow: bool = False
    """Whether the top shows a dark opening."""

    @property
    def half_height_m(self) -> float:
        """Half the height [m], the height of the origin when the object rests."""
        part = self.parts[0]
        return part.size_m[1 if part.is_round else 2]

    @property
    def has_yaw(self) -> bool:
        """Whether it is longer than wide, so that its yaw is visible and matters."""
        return self.yaw_period_rad > np.pi / 2

    @property
    def radius_m(self) -> float:
        """Maximum horizontal distance of a point from the origin [m]."""
        return max(_reach(part) for part in self.parts)


def _reach(part: Part) -> float:
    if part.is_round:
        return float(np.hypot(*part.centre_m[:2]) + part.size_m[0])
    return float(np.hypot(*(np.abs(part.centre_m[:2]) + part.size_m[:2])))


def _round(height_m: float, *, hollow: bool = False) -> Shape:
    size_m = (NOMINAL_M, height_m / 2, 0.0)
    return Shape(
        parts=(Part(size_m=size_m, is_round=True),), yaw_period_rad=ANY_YAW, is_hollow=hollow
    )


SHAPES = {
    "cube": Shape(parts=(Part(size_m=(NOMINAL_M,) * 3),), yaw_period_rad=np.pi / 2),
    "box": Shape(parts=(Part(size_m=(0.0352, 0.0165, NOMINAL_M)),), yaw_period_rad=np.pi),
    "cup": _round(0.07, hollow=True),
    "cylinder": _round(0.044),
    "long_box": Shape(
        parts=(Part(size_m=(0.06, 0.0175, 0.02)),), mass_kg=0.1, yaw_period_rad=np.pi
    ),
    "T": Shape(
        parts=(
            Part(size_m=(0.035, 0.015, 0.02), centre_m=(-0.015, 0.0, 0.0)),
            Part(size_m=(0.015, 0.045, 0.02), centre_m=(0.035, 0.0, 0.0)),
        ),
        mass_kg=0.1,
        yaw_period_rad=2 * np.pi,
    ),
    "L": Shape(
        parts=(
            Part(size_m=(0.05, 0.015, 0.02)),
            Part(size_m=(0.015, 0.02, 0.02), centre_m=(0.035, 0.035, 0.0)),
        ),
        mass_kg=0.1,
        yaw_period_rad=2 * np.pi,
    ),
}
"""Shapes by name: a cube of 4.4 cm, a box of 7 x 3.3 cm, a cup and a cylinder of 4.4 cm diameter, a
long box of 12 x 3.5 cm, a T with a stem of 7 x 3 cm and a bar of 9 x 3 cm, and an L with sides of
10 x 3 cm and 7 x 3 cm. `cylinder` and `L` are reserved for evaluation."""


def get_shape(name: str) -> Shape:
    """Look up a shape.

    Raises:
        TaskError: Unknown name; the message lists the known ones.
    """
    if name not in SHAPES:
        raise TaskError(f"Unknown object {name!r}; known: {', '.join(SHAPES)}")
    return SHAPES[name]


def yaw_difference(a_rad: float, b_rad: float, period_rad: float) -> float:
    """Return the angle between two yaws, modulo a shape's symmetry [rad, 0 to period / 2]."""
    if period_rad == ANY_YAW:
        return 0.0
    return abs(float((a_rad - b_rad + period_rad / 2) % period_rad - period_rad / 2))


def nearest_yaw(yaw_rad: float, period_rad: float) -> float:
    """Return the yaw nearest to 0 that looks the same [rad]; 0 for a round shape."""
    if period_rad == ANY_YAW:
        return 0.0
    return float((yaw_rad + period_rad / 2) % period_rad - period_rad / 2)


def nearest_grip_yaw(yaw_rad: float, period_rad: float, current_rad: float) -> float:
    """Return the gripper yaw nearest to `current_rad` that grips an object [rad].

    Half a turn of a parallel gripper makes no difference.

    Args:
        yaw_rad: Yaw of the object.
        period_rad: Its `Shape.yaw_period_rad`.
        current_rad: Yaw of the gripper.
    """
    if period_rad == ANY_YAW:
        return current_rad
    period = min(period_rad, np.pi)
    return float(yaw_rad - period * np.round((yaw_rad - current_rad) / period))
