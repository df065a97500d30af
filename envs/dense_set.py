"""Render images with the depth and the class of every pixel, for probes of dense features.

Every image shows another scene from another place: appearance, objects, places, the arm's pose and
the camera's are drawn for each image, so that a pixel's position says little about its class.
The depth is a 16-bit PNG in millimetres, 0 where nothing is; the class an 8-bit PNG with the
numbers of `CLASSES`, 255 where nothing is.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from envs.arm_env import ArmEnv
from envs.config import Split
from envs.dense_options import CLASSES, DenseSetOptions
from envs.errors import ConfigError
from envs.layout import Clutter
from envs.objects import BODY_NAMES, WALL
from envs.scene import look_at

RECORD = "dense_set.json"
"""Name of the file with the options of a set."""
MAY_DIFFER = ("out", "train", "val")
"""Options that add images of the same kind."""
UNSEEN = 500_000_000
"""Added to the seed of an image for the unseen ones."""
NOTHING = 255
"""Class number where nothing is."""
MOVES = 4
"""Maximum number of random moves before the image is taken."""
SHIFT_M = np.array([0.3, 0.3, 0.2])
"""Maximum displacement of a camera beside the table."""
AIM_M, AIM_SHIFT_M = np.array([0.5, 0.0, 0.1]), np.array([0.25, 0.25, 0.1])
"""Point that it looks at, and the largest displacement of that point."""


def write_dense_set(options: DenseSetOptions) -> dict[str, int]:
    """Write the images that are missing; return the number of images of each part.

    Raises:
        ConfigError: No image is asked for, or `out` holds files of something else.
        RenderingError: This machine cannot render.
    """
    out = Path(options.out)
    _require_own_folder(out, options)
    parts: dict[str, tuple[int, Split]] = {
        "train": (options.train, "train"),
        "val": (options.val, "held_out"),
    }
    for number, (part, (count, split)) in enumerate(parts.items()):
        _write_part(out / part, count, split, options, number * UNSEEN)
    _write(out / "classes.txt", ("\n".join(CLASSES) + "\n").encode())
    return {part: count for part, (count, _) in parts.items()}


def _require_own_folder(out: Path, options: DenseSetOptions) -> None:
    """Check that a folder is empty or holds images of the same options, and keep them there."""
    if not options.train + options.val:
        raise ConfigError("train=0 val=0 asks for no image. Give one of them above 0")
    facts = {k: v for k, v in asdict(options).items() if k not in MAY_DIFFER}
    record = out / RECORD
    same = record.is_file() and record.read_bytes() == json.dumps(facts).encode()
    there = sorted(out.glob("[!.]*"))  # the command's own lock is hidden
    if there and not same:
        raise ConfigError(
            f"{out} holds {there[0].name}, and no images of the same options: give another out=, "
            "or empty it"
        )
    _write(record, json.dumps(facts).encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; an error names it."""
    part = path.with_name(f".{path.name}.part")  # one run writes here, which holds the lock
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_part(
    folder: Path, count: int, split: Split, options: DenseSetOptions, first: int
) -> None:
    """Write the images of a part; one is there if its labels, which come last, are."""
    missing = [i for i in range(count) if not (folder / "labels" / f"{i:06d}.png").is_file()]
    if not missing:
        return
    env = ArmEnv(
        "pick_place",
        image_size=options.image_size,
        split=split,
        fidelity=options.fidelity,
        objects=("cube", "box", "cup"),
        cameras=(options.camera,),
        clutter=Clutter(objects_per_scene=(0.5, 0.3, 0.2), walls=0.5, turned=0.8),
    )
    try:
        for number in tqdm(missing, desc=folder.name, unit="image"):
            image, depth_mm, classes = _scene(env, options.camera, (options.seed, first + number))
            for name, pixels in (("images", image), ("depth", depth_mm), ("labels", classes)):
                picture = io.BytesIO()
                Image.fromarray(pixels).save(picture, "PNG")
                _write(folder / name / f"{number:06d}.png", picture.getvalue())
    finally:
        env.close()


def _scene(
    env: ArmEnv, camera: str, seed: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint8]]:
    """Draw a scene; return its image, its depths [mm] and its classes."""
    rng = np.random.default_rng(seed)
    env.reset(seed=int(rng.integers(2**31)))
    for _ in range(rng.integers(MOVES + 1)):
        env.step((env.action_space.high * rng.uniform(-1, 1, 7)).astype(np.float32))
    if camera != "wrist":  # which moves with the arm
        _move_camera(env, camera, rng)
    image = env.renderer.render(env.data, camera)
    depth_m, numbers = env.renderer.measure(env.data, camera)
    depth_mm = np.minimum(np.rint(1000 * depth_m), 2**16 - 1).astype(np.uint16)
    return image, depth_mm, class_of_geometries(env.model)[numbers]


def _move_camera(env: ArmEnv, camera: str, rng: np.random.Generator) -> None:
    number = env.model.camera(camera).id
    place_m = env.world.nominal.cam_pos[number] + SHIFT_M * rng.uniform(-1, 1, 3)
    env.model.cam_pos[number] = place_m
    env.model.cam_quat[number] = look_at(place_m, AIM_M + AIM_SHIFT_M * rng.uniform(-1, 1, 3))
    mujoco.mj_forward(env.model, env.data)


def class_of_geometries(model: mujoco.MjModel) -> NDArray[np.uint8]:
    """Return the class number of each geometry, and last that of nothing: [ngeom + 1]."""
    found = np.full(model.ngeom + 1, NOTHING, np.uint8)
    for number in range(model.ngeom):
        geometry = model.geom(number)
        body = model.body(model.geom_bodyid[number]).name
        name = geometry.name if body == "world" else body
        found[number] = CLASSES.index(_class_of(name))
    return found


def _class_of(name: str) -> str:
    """Return the class of a body, or of a geometry of the world."""
    if name in BODY_NAMES:
        return "object"
    if name in (WALL, "table", "floor"):
        return "wall" if name == WALL else name
    return "hand" if name == "hand" or name.endswith("finger") else "arm"
