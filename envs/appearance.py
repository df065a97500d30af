"""Randomise the appearance of a scene: colours, textures, light and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.embodiment import ExteriorCamera
from envs.objects import WALL
from envs.scene import look_at
from envs.shapes import NOMINAL_M
from envs.world import World

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AppearanceDistribution:
    """Ranges from which the appearance of a scene is drawn uniformly."""

    hues: tuple[tuple[float, float, float], ...]
    """Object colours (RGB, 0..1)."""
    colour_jitter: float
    """Maximum change of each channel of the object's colour."""
    tables: tuple[tuple[float, float, float], ...]
    """Table colours (RGB, 0..1)."""
    textures: tuple[str, ...]
    """Names of table textures: `plain`, or one of `scene.TABLE_TEXTURES`."""
    light: tuple[float, float]
    """Range of the diffuse light (0..1)."""
    camera_deg: float
    """Maximum rotation of the exterior cameras about the centre of the table [deg]."""
    half_size_m: tuple[float, float]
    """Range of an object's half width [m]."""
    walls: tuple[tuple[float, float, float], ...]
    """Wall colours (RGB, 0..1)."""


SPLITS = {
    "train": AppearanceDistribution(
        hues=(
            (0.85, 0.12, 0.1),
            (0.1, 0.5, 0.15),
            (0.1, 0.25, 0.8),
            (0.9, 0.6, 0.05),
            (0.15, 0.15, 0.17),
            (0.9, 0.9, 0.88),
            (0.9, 0.85, 0.15),
            (0.5, 0.75, 0.15),
            (0.45, 0.27, 0.14),
            (0.12, 0.12, 0.4),
            (0.45, 0.6, 0.9),
            (0.5, 0.5, 0.5),
        ),
        colour_jitter=0.08,
        tables=(
            (0.62, 0.55, 0.47),
            (0.5, 0.52, 0.55),
            (0.7, 0.68, 0.64),
            (0.82, 0.78, 0.7),
            (0.33, 0.3, 0.28),
            (0.56, 0.4, 0.27),
            (0.76, 0.8, 0.84),
            (0.38, 0.46, 0.56),
            (0.66, 0.57, 0.6),
            (0.72, 0.7, 0.5),
        ),
        textures=("plain", "grain", "speckle", "tiles"),
        light=(0.45, 0.85),
        camera_deg=3.0,
        half_size_m=(0.019, 0.024),
        walls=((0.6, 0.42, 0.28), (0.42, 0.45, 0.5), (0.78, 0.76, 0.7), (0.4, 0.5, 0.42)),
    ),
    "held_out": AppearanceDistribution(
        hues=((0.55, 0.1, 0.6), (0.05, 0.6, 0.65), (0.95, 0.35, 0.45)),
        colour_jitter=0.06,
        tables=((0.45, 0.4, 0.33), (0.6, 0.65, 0.6)),
        textures=("plain", "checks"),
        light=(0.4, 0.9),
        camera_deg=5.0,
        half_size_m=(0.018, 0.025),
        walls=((0.5, 0.3, 0.36), (0.62, 0.66, 0.74)),
    ),
}
"""Appearance distribution of each split; `held_out` shares only the texture `plain` with
`train`."""


OTHER_HUE = 0.35
"""Smallest distance of the colours of two objects in a scene, as a norm of RGB differences."""


def randomise(
    world: World, appearance: AppearanceDistribution, rng: np.random.Generator, num_objects: int
) -> None:
    """Randomise colours, texture, light, cameras and object sizes of a world, in place.

    Args:
        world: Scene to change.
        appearance: Distribution of appearances.
        rng: Random generator.
        num_objects: Number of objects to change, the first ones.
    """
    model = world.model
    paint_table(model, appearance, rng)
    vary_object(world, 0, appearance, rng)
    model.light_diffuse[model.light("sun").id] = rng.uniform(*appearance.light)
    model.light_pos[model.light("sun").id, :2] = rng.uniform(-0.6, 0.9, 2)
    turn_cameras(world, appearance.camera_deg, rng)
    for index in range(1, num_objects):
        vary_object(world, index, appearance, rng)
    if world.has_wall:
        wall = np.array(appearance.walls[rng.integers(len(appearance.walls))])
        model.geom_rgba[model.geom(WALL).id, :3] = np.clip(wall + rng.uniform(-0.05, 0.05), 0, 1)


def paint_table(
    model: mujoco.MjModel, appearance: AppearanceDistribution, rng: np.random.Generator
) -> None:
    """Draw the table's colour and texture."""
    table = model.geom("table").id
    colour = np.array(appearance.tables[rng.integers(len(appearance.tables))])
    model.geom_rgba[table, :3] = np.clip(colour + rng.uniform(-0.05, 0.05), 0, 1)
    model.geom_matid[table] = model.material(str(rng.choice(appearance.textures))).id


def paint_object(
    world: World, index: int, appearance: AppearanceDistribution, rng: np.random.Generator
) -> None:
    """Draw an object's colour, different from those of the objects before it."""
    used = [world.model.geom_rgba[item.geoms[0], :3] for item in world.objects[:index]]
    while True:
        hue = np.array(appearance.hues[rng.integers(len(appearance.hues))])
        jitter = rng.uniform(-appearance.colour_jitter, appearance.colour_jitter, 3)
        colour = np.clip(hue + jitter, 0, 1)
        if all(float(np.linalg.norm(colour - other)) >= OTHER_HUE for other in used):
            world.objects[index].colour(colour)
            return


def vary_object(
    world: World, index: int, appearance: AppearanceDistribution, rng: np.random.Generator
) -> None:
    """Draw an object's colour and size."""
    paint_object(world, index, appearance, rng)
    world.objects[index].resize(float(rng.uniform(*appearance.half_size_m)) / NOMINAL_M)


def turn_cameras(world: World, most_deg: float, rng: np.random.Generator) -> None:
    """Draw a rotation of the exterior cameras about the point that they look at."""
    for camera in world.embodiment.cameras:
        angle = rng.uniform(-most_deg, most_deg)
        place_camera(world.model, camera, np.array(camera.place_m), float(angle))


def place_camera(
    model: mujoco.MjModel, camera: ExteriorCamera, position_m: Array, angle_deg: float
) -> None:
    """Rotate a camera's position [3, m] about the vertical through its target; look at it."""
    turn, target_m = np.radians(angle_deg), np.array(camera.target_m)
    offset = position_m - target_m
    c, s = np.cos(turn), np.sin(turn)
    moved = target_m + np.array(
        [c * offset[0] - s * offset[1], s * offset[0] + c * offset[1], offset[2]]
    )
    index = model.camera(camera.name).id
    model.cam_pos[index] = moved
    model.cam_quat[index] = look_at(moved, target_m)
