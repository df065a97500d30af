"""Draw where arm, objects, wall and targets are at the start of an episode."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from envs.embodiment import FRANKA
from envs.errors import TaskError
from envs.objects import BODY_NAMES, Wall

Array = NDArray[np.float64]

ARM_LOW_M, ARM_HIGH_M = np.array([0.42, -0.15, 0.10]), np.array([0.60, 0.15, 0.24])
"""Workspace of the fingertips' initial and goal positions [m]."""
OBJECT_LOW_M, OBJECT_HIGH_M = np.array([0.43, -0.14]), np.array([0.59, 0.14])
"""Workspace of object and target positions [m]."""
WIDE_LOW_M, WIDE_HIGH_M = np.array([0.40, -0.20]), np.array([0.62, 0.20])
"""Workspace of the positions of several objects [m]."""
CLEARANCE_M = 0.015
"""Smallest distance between the outlines of two objects, or of an object and the wall [m]."""
WALL_LOW_M, WALL_HIGH_M = (0.008, 0.05, 0.035), (0.015, 0.11, 0.075)
"""Range of half the thickness, length and height of a wall [m]."""
HAND_M = 0.11
"""Half the width of the hand [m]; within it of a wall, the start is above the wall."""
HAND_CLEAR_M = 0.03
"""Height of the fingertips above a wall that they can cross without an object [m]."""
SEEN_M = 0.02
"""Horizontal distance of a line of sight from a wall at which an object is not hidden [m]."""
MAX_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Clutter:
    """Objects and walls beyond those of a task, for data sets.

    Raises:
        TaskError: A share is out of range, or the shares do not sum to 1.
    """

    objects_per_scene: tuple[float, ...] = (1.0,)
    """Shares of scenes with one, two and three objects."""
    walls: float = 0.0
    """Share of the scenes with one object that have a wall."""
    turned: float = 0.0
    """Share of objects with a random yaw; the others start at yaw 0."""

    def __post_init__(self) -> None:
        shares = self.objects_per_scene
        whole = len(shares) in range(1, len(BODY_NAMES) + 1) and abs(sum(shares) - 1) < 1e-6
        if not whole or min(shares) < 0:
            raise TaskError(
                f"objects_per_scene={list(shares)}; allowed: one to three shares that sum to 1, "
                "for example 0.8,0.2"
            )
        for name in ("walls", "turned"):
            if not 0 <= getattr(self, name) <= 1:
                raise TaskError(f"{name}={getattr(self, name)}; allowed: 0 to 1")

    @property
    def is_empty(self) -> bool:
        """Whether every scene has one object at yaw 0 and no wall."""
        return self == Clutter()

    def draw_composition(
        self, shapes: tuple[str, ...], rng: np.random.Generator
    ) -> tuple[tuple[str, ...], bool]:
        """Draw the shapes of a scene, in alphabetical order, and whether it has a wall."""
        count = 1 + int(rng.choice(len(self.objects_per_scene), p=self.objects_per_scene))
        drawn = sorted(shapes[rng.integers(len(shapes))] for _ in range(count))
        return tuple(drawn), bool(count == 1 and rng.random() < self.walls)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Start of an episode. Shapes: M objects."""

    tcp_m: Array
    """Position of the fingertips [3, m]."""
    goal_tcp_m: Array = field(default_factory=lambda: np.zeros(3))
    """Goal of the fingertips [3, m]."""
    objects_m: list[Array]
    """Position of each object on the table [2, m]."""
    yaws_rad: list[float]
    """Yaw of each object [rad]."""
    targets_m: list[Array]
    """Target of each object on the table [2, m]; its own position if it has to stay."""
    target_yaws_rad: list[float]
    """Target yaw of each object [rad]."""
    wall: Wall | None = None
    """The wall, if the scene has one."""


def draw_apart(rng: np.random.Generator, other_m: Array, least_m: float, most_m: float) -> Array:
    """Draw a position [x, y] on the table within a range of distances from another one.

    If no position is in range, because the other one is off the table, return any position.

    Args:
        rng: Random generator.
        other_m: The other position [>=2, m].
        least_m: Smallest distance [m].
        most_m: Maximum distance [m].
    """
    for _ in range(1000):
        place = rng.uniform(OBJECT_LOW_M, OBJECT_HIGH_M)
        if least_m <= float(np.linalg.norm(place - other_m[:2])) <= most_m:
            break
    return place


def draw_wall(rng: np.random.Generator, centre_m: Array, yaw_rad: float) -> Wall:
    """Draw the size of a wall at a position [2, m] and a yaw [rad]."""
    thickness, length, height = rng.uniform(WALL_LOW_M, WALL_HIGH_M)
    x, y = (float(v) for v in centre_m)
    half_m = (float(thickness), float(length), float(height))
    return Wall(centre_m=(x, y), yaw_rad=float(yaw_rad), half_m=half_m)


def is_visible(wall: Wall, place_m: Array, eye_m: Array = FRANKA.left_m) -> bool:
    """Return whether a camera at `eye_m` [3, m] sees an object at `place_m` [>=2, m] past the wall.

    The line to its foot has to pass the wall by `SEEN_M`.
    """
    samples_N1 = np.linspace(0.0, 1.0, 200)[:, None]
    line_N3 = eye_m + samples_N1 * (np.array([*place_m[:2], 0.015]) - eye_m)
    local_N2 = np.abs(wall.to_local(line_N3[:, :2]))
    blocked = (local_N2 <= np.array(wall.half_m[:2]) + SEEN_M).all(axis=1)
    return not bool((blocked & (line_N3[:, 2] < wall.height_m)).any())


def fits(
    wall: Wall, tcp_m: Array, places_m: list[Array], radii_m: list[float], eye_m: Array
) -> bool:
    """Return whether a wall leaves room for hand and objects, and hides none from `eye_m`."""
    above = tcp_m[2] > wall.height_m + HAND_CLEAR_M
    if not above and wall.distance_m(tcp_m[:2]) < HAND_M:
        return False
    return all(
        wall.distance_m(place) > radius + CLEARANCE_M and is_visible(wall, place, eye_m)
        for place, radius in zip(places_m, radii_m, strict=True)
    )


def draw_places(rng: np.random.Generator, radii_m: list[float]) -> list[Array]:
    """Draw a position [2, m] for each circle so that they do not touch, one after another.

    Raises:
        TaskError: There is no room for them.
    """
    single = len(radii_m) == 1
    low, high = (OBJECT_LOW_M, OBJECT_HIGH_M) if single else (WIDE_LOW_M, WIDE_HIGH_M)
    for _ in range(MAX_DRAWS):
        places: list[Array] = []
        for _ in range(20 * len(radii_m)):
            place = rng.uniform(low, high)
            if _is_free(place, radii_m[len(places)], places, radii_m):
                places.append(place)
            if len(places) == len(radii_m):
                return places
    raise TaskError(f"No room for objects with radii {np.round(radii_m, 3)} m: use smaller shapes")


def _is_free(place_m: Array, radius_m: float, places_m: list[Array], radii_m: list[float]) -> bool:
    return all(
        np.linalg.norm(place_m - other) > radius_m + radius + CLEARANCE_M
        for other, radius in zip(places_m, radii_m, strict=False)
    )
