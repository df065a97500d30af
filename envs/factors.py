"""Robustness: change one factor of a scene beyond the training data, and nothing else.

| factor | change |
|---|---|
| object_color | object colours of the held-out split |
| object_size | half width of 15 to 19 mm or 24 to 28 mm instead of 19 to 24 mm |
| shape | a cylinder; where yaw matters, an L |
| table_texture | table colours and textures of the held-out split, always with a pattern |
| light | brightness of 0.2 to 0.35 or 1.0 to 1.3 instead of 0.45 to 0.85 |
| camera | exterior cameras turned by 4 to 5 degrees instead of up to 3, and shifted by 3 cm |
| mass_friction | mass halved or doubled, and friction of objects and table times 0.6 or 1.5 |
| distractor | one more object, which is in the goal image too and may be moved |
| gripper_speed | the gripper takes 0.4 to 0.8 s for its stroke instead of the fastest possible |
| play_goal | the goal is a state that play has reached: any yaw, the arm where play left it |

The same seed has the same start and goal with every factor, as far as the factor allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import mujoco
import numpy as np

from envs.appearance import SPLITS, paint_object, paint_table, place_camera, vary_object
from envs.errors import TaskError
from envs.layout import CLEARANCE_M, MAX_DRAWS, WIDE_HIGH_M, WIDE_LOW_M, Layout
from envs.objects import BODY_NAMES, SceneObject
from envs.shapes import NOMINAL_M, get_shape
from envs.tasks import Task
from envs.world import World

UNSEEN_SHAPE, UNSEEN_LONG_SHAPE = "cylinder", "L"
"""Shapes of the factor `shape`; the second where yaw matters."""
DISTRACTORS = ("cube", "box", "cup")
"""Shapes of a distractor."""
CAMERA_DEG, CAMERA_M = (4.0, 5.0), 0.03
"""Range of the turn of the cameras [deg], and their shift [m]."""
GRIPPER_S = (0.4, 0.8)
"""Range of the duration of the gripper's stroke [s]."""

Change = Callable[[World, np.random.Generator], None]


def _object_color(world: World, rng: np.random.Generator) -> None:
    for index in range(len(world.objects)):
        paint_object(world, index, SPLITS["held_out"], rng)


def _object_size(world: World, rng: np.random.Generator) -> None:
    low, high = [(0.015, 0.019), (0.024, 0.028)][rng.integers(2)]
    for item in world.objects:
        item.resize(float(rng.uniform(low, high)) / NOMINAL_M)


def _table_texture(world: World, rng: np.random.Generator) -> None:
    paint_table(world.model, replace(SPLITS["held_out"], textures=("checks",)), rng)


def _light(world: World, rng: np.random.Generator) -> None:
    low, high = [(0.2, 0.35), (1.0, 1.3)][rng.integers(2)]
    world.model.light_diffuse[world.model.light("sun").id] = rng.uniform(low, high)


def _camera(world: World, rng: np.random.Generator) -> None:
    for camera in world.embodiment.cameras:
        angle = rng.choice([-1.0, 1.0]) * rng.uniform(*CAMERA_DEG)
        shift = rng.normal(size=3)
        shift *= CAMERA_M / np.linalg.norm(shift)
        place_camera(world.model, camera, np.array(camera.place_m) + shift, float(angle))


def _mass_friction(world: World, rng: np.random.Generator) -> None:
    mass, friction = rng.choice([0.5, 2.0]), rng.choice([0.6, 1.5])
    model, nominal = world.model, world.nominal
    for item in world.objects:
        model.body_mass[item.body] = mass * nominal.body_mass[item.body]
        model.body_inertia[item.body] = mass * nominal.body_inertia[item.body]
    # The contact solver scales its forces by the inertia at the nominal pose.
    mujoco.mj_setConst(model, mujoco.MjData(model))
    for geom in (model.geom("table").id, *(g for item in world.objects for g in item.geoms)):
        model.geom_friction[geom, 0] = friction * nominal.geom_friction[geom, 0]


def _distractor(world: World, rng: np.random.Generator) -> None:
    vary_object(world, len(world.objects) - 1, SPLITS["train"], rng)


def _gripper_speed(world: World, rng: np.random.Generator) -> None:
    world.arm.stroke_s = float(rng.uniform(*GRIPPER_S))


CHANGES: dict[str, Change] = {
    "object_color": _object_color,
    "object_size": _object_size,
    "table_texture": _table_texture,
    "light": _light,
    "camera": _camera,
    "mass_friction": _mass_friction,
    "gripper_speed": _gripper_speed,
    "distractor": _distractor,
}
"""Changes of a compiled scene, made after the appearance of the train split was drawn."""


def require_factor_fits(factor: str, task: Task) -> None:
    """Check that a factor can change the scene of a task.

    Raises:
        TaskError: It cannot.
    """
    if factor == "play_goal" and (task.num_objects, task.num_moving) != (1, 1):
        raise TaskError(f"factor=play_goal needs a task that moves one object, not {task.name}")
    if factor == "distractor" and task.num_objects == len(BODY_NAMES):
        raise TaskError(
            f"factor=distractor needs a task with fewer than {len(BODY_NAMES)} objects, not "
            f"{task.name}"
        )


def change_world(factor: str, world: World, rng: np.random.Generator) -> None:
    """Apply a factor to a compiled scene, in place; factors of other kinds change nothing here."""
    if factor in CHANGES:
        CHANGES[factor](world, rng)


def change_shapes(
    factor: str, shapes: tuple[str, ...], rng: np.random.Generator
) -> tuple[str, ...]:
    """Return the shapes of a scene: unseen ones, or with a distractor as the last."""
    if factor == "shape":
        long = [get_shape(name).has_yaw for name in shapes]
        return tuple(UNSEEN_LONG_SHAPE if is_long else UNSEEN_SHAPE for is_long in long)
    if factor == "distractor":
        return (*shapes, str(rng.choice(DISTRACTORS)))
    return shapes


def add_distractor(
    layout: Layout, items: tuple[SceneObject, ...], rng: np.random.Generator
) -> Layout:
    """Place the last object apart from the others, from their targets and from the wall.

    Raises:
        TaskError: There is no room.
    """
    *others, extra = items
    circles = [
        (place, item.radius_m)
        for places in (layout.objects_m, layout.targets_m)
        for place, item in zip(places, others, strict=True)
    ]
    for _ in range(MAX_DRAWS):
        place = rng.uniform(WIDE_LOW_M, WIDE_HIGH_M)
        room = extra.radius_m + 3 * CLEARANCE_M
        clear = layout.wall is None or layout.wall.distance_m(place) > room
        if clear and all(np.linalg.norm(place - p) > radius + room for p, radius in circles):
            yaw = float(rng.uniform(-np.pi, np.pi))
            return replace(
                layout,
                objects_m=[*layout.objects_m, place],
                yaws_rad=[*layout.yaws_rad, yaw],
                targets_m=[*layout.targets_m, place],
                target_yaws_rad=[*layout.target_yaws_rad, yaw],
            )
    raise TaskError("No room for a distractor; use smaller shapes")
