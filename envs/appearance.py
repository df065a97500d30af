"""Randomise the appearance of a scene: colours, textures, light and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from envs.errors import TaskError
from envs.scene import CAMERAS, look_at, nominal_size, resize_object


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
    ),
    "held_out": AppearanceDistribution(
        hues=((0.55, 0.1, 0.6), (0.05, 0.6, 0.65), (0.95, 0.35, 0.45)),
        colour_jitter=0.06,
        tables=((0.45, 0.4, 0.33), (0.6, 0.65, 0.6)),
        textures=("plain", "checks"),
        light=(0.4, 0.9),
        camera_deg=5.0,
        half_size_m=(0.018, 0.025),
    ),
}
"""Appearance distribution of each split; `held_out` shares only the texture `plain` with
`train`."""


def randomise(model: mujoco.MjModel, split: str, rng: np.random.Generator) -> None:
    """Randomise colours, texture, light, cameras and object size of a compiled model, in place.

    Args:
        model: Compiled scene.
        split: Name in `SPLITS`.
        rng: Random generator.

    Raises:
        TaskError: Unknown split.
    """
    if split not in SPLITS:
        raise TaskError(f"Unknown split {split!r}; known: {', '.join(SPLITS)}")
    appearance = SPLITS[split]
    table = model.geom("table").id
    colour = np.array(appearance.tables[rng.integers(len(appearance.tables))])
    model.geom_rgba[table, :3] = np.clip(colour + rng.uniform(-0.05, 0.05), 0, 1)
    model.geom_matid[table] = model.material(str(rng.choice(appearance.textures))).id
    geom = model.geom("object").id
    hue = np.array(appearance.hues[rng.integers(len(appearance.hues))])
    jitter = rng.uniform(-appearance.colour_jitter, appearance.colour_jitter, 3)
    model.geom_rgba[geom] = [*np.clip(hue + jitter, 0, 1), 1.0]
    model.geom_matid[geom] = -1
    resize_object(model, nominal_size(model) * (rng.uniform(*appearance.half_size_m) / 0.022))
    model.light_diffuse[model.light("sun").id] = rng.uniform(*appearance.light)
    model.light_pos[model.light("sun").id, :2] = rng.uniform(-0.6, 0.9, 2)
    for name, position, target, _ in CAMERAS:
        turn = np.radians(rng.uniform(-appearance.camera_deg, appearance.camera_deg))
        offset = np.array(position) - target
        c, s = np.cos(turn), np.sin(turn)
        moved = target + np.array(
            [c * offset[0] - s * offset[1], s * offset[0] + c * offset[1], offset[2]]
        )
        camera = model.camera(name).id
        model.cam_pos[camera] = moved
        model.cam_quat[camera] = look_at(moved, target)
