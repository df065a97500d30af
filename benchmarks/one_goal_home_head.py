"""Train the home head of a model: it decodes objects while the arm is at its start pose.

    python benchmarks/one_goal_home_head.py START.safetensors OUT.safetensors
    python benchmarks/one_goal_home_head.py START.safetensors OUT.safetensors squeezes=FOLDER
    python benchmarks/one_goal_home_head.py check

The weights of START stay as they are. The script shows the encoder scenes at their start, plain and
with changed colours and patterns, and trains a new head on their tokens with the simulator's poses:
103,000 scenes, some 15 minutes of one core. With `squeezes` the robot locates the objects itself
(`squeezed_scenes.py`): 21,000 scenes, some 20 minutes, kept in FOLDER. `check` measures both heads
of the shipped weights on scenes of other seeds, and fills a table of docs/model-card.md.

SCALE=0.01 in the environment makes that share of the scenes and steps, to try the script itself.
"""

from __future__ import annotations

import copy
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_blocks import fill_blocks, markdown_table
from squeezed_scenes import Scenes, record
from torch import Tensor
from tqdm import tqdm

from envs.arm_env import ArmEnv
from envs.layout import Clutter
from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.container import read_description
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.data.flat_arrays import MAX_OBJECTS
from worldmodel.evaluation.object_errors import pose_errors
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.world_model import WorldModel
from worldmodel.training.augmentation import random_colours, random_patterns

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "home_head.json", HERE.parent / "docs" / "model-card.md"
MODELS = ("one_goal_labelled", "one_goal")
SIZE = 128
"""Height of their images [px]."""
STEPS, BATCH, RATE, DECAY = 12_000, 256, 1e-3, 0.05
NOISE = 0.05
"""Noise added to tokens, in deviations of each of their numbers."""
COLOURS, HUE_DEG, PATTERNS = 0.1, 45.0, 0.25
"""Changes of colours and brightness, those of phase 1."""
COPIES = (1, 5)
"""Copies of a picture with changed colours, of the simulator's scenes and of squeezed ones."""
ENCODED = 256


MIXED = ("cube", "box", "cup", "cup", "T", "long_box")
TRAIN = (
    Scenes("pick_place", ("cup", "cup", "cup", "cube", "box"), 1_500_000_000, 23_000),
    Scenes(
        "pick_place",
        MIXED,
        1_501_000_000,
        27_000,
        clutter=Clutter(objects_per_scene=(0.4, 0.6), walls=0.1, turned=0.6),
    ),
    Scenes("two_objects", (), 1_502_000_000, 24_000),
    Scenes("push_pose", (), 1_503_000_000, 16_000),
    Scenes("over_wall", (), 1_504_000_000, 13_000),
)
"""Their seeds are far from those of evaluations (`planning.rollout.episode_seed`)."""
SQUEEZED = (
    Scenes("pick_place", ("cube", "cube", "cube", "box", "cup"), 1_600_000_000, 10_000),
    Scenes("two_objects", (), 1_601_000_000, 5_000),
    Scenes("over_wall", (), 1_602_000_000, 3_000),
    Scenes("push_pose", (), 1_603_000_000, 3_000),
)
"""Scenes that are tried; those whose squeezes told nothing are left out."""
TEST = (
    Scenes("pick_place", ("cup",), 5_000_000, 400),
    Scenes("pick_place", ("cube", "box"), 5_000_000, 400),
    Scenes("push_pose", (), 5_000_000, 400),
    Scenes("two_objects", (), 5_000_000, 400),
    Scenes("over_wall", (), 5_000_000, 400),
)


def scaled(count: int) -> int:
    """Return the number of scenes or steps in this run of the script."""
    return max(4, round(count * float(os.environ.get("SCALE", "1"))))


def render(scenes: Scenes, size: int) -> tuple[np.ndarray, Tensor]:
    """Return the images uint8 [S, H, W, 3] and object poses [S, L, 4] of scenes."""
    env = ArmEnv(scenes.task, image_size=size, objects=scenes.objects, clutter=scenes.clutter)
    number = scaled(scenes.number)
    images_SHWC = np.empty((number, size, size, 3), np.uint8)
    poses_SL4 = np.full((number, MAX_OBJECTS, 4), np.nan, np.float32)
    for i in tqdm(range(number), desc=scenes.task, unit="scene"):
        observation, _ = env.reset(seed=scenes.seed + i)
        images_SHWC[i] = observation["image"]
        for j, item in enumerate(env.items[:MAX_OBJECTS]):
            poses_SL4[i, j] = item.label
    env.close()
    return images_SHWC, torch.from_numpy(poses_SL4)


def squeezed(scenes: Scenes, size: int, folder: Path) -> tuple[np.ndarray, Tensor]:
    """Return the images and poses of scenes that the robot labelled, recorded once in a folder."""
    file = folder / f"{scenes.task}.npz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        some = replace(scenes, number=scaled(scenes.number))
        images_SHWC, poses_SL4, true_SL4 = record(some, size)
        np.savez(file, images=images_SHWC, poses=poses_SL4, true=true_SL4)
    with np.load(file) as kept:
        return kept["images"], torch.from_numpy(kept["poses"])


@torch.no_grad()
def encode(world: WorldModel, images_SHWC: np.ndarray, *, changed: bool) -> Tensor:
    """Return the tokens [S, N, D] of images, with changed colours and patterns if `changed`."""
    parts = []
    for start in range(0, len(images_SHWC), ENCODED):
        images = torch.from_numpy(images_SHWC[start : start + ENCODED])
        colours = patterns = None
        if changed:
            colours = random_colours(len(images), COLOURS, HUE_DEG)
            patterns = random_patterns(len(images), PATTERNS, *images.shape[1:3])
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(world.encoder.encode_frames(images, colours, patterns).float())
    return torch.cat(parts)


def train(head: ObjectHead, z_SND: Tensor, poses_SL4: Tensor) -> ObjectHead:
    """Return a head that was trained further on tokens and poses."""
    head = copy.deepcopy(head).train().requires_grad_(True)
    steps, deviation_D = scaled(STEPS), z_SND.flatten(0, 1).std(0)
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    for _ in tqdm(range(steps), desc="head", unit="step"):
        rows_B = torch.randint(len(z_SND), (BATCH,))
        z_BND = z_SND[rows_B] + NOISE * deviation_D * torch.randn(BATCH, *z_SND.shape[1:])
        loss = head.loss(z_BND, poses_SL4[rows_B], yaws_known=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return head.eval().requires_grad_(False)


def check() -> None:
    """Measure both heads of the shipped weights on unseen scenes, and write the page."""
    worlds = {name: load_world_model(name, "cpu") for name in MODELS}
    rows = []
    for scenes in TEST:
        images_SHWC, poses_SL4 = render(scenes, SIZE)
        row: dict[str, Any] = {"task": scenes.task, "objects": scenes.objects}
        for name, world in worlds.items():
            z_SND = encode(world, images_SHWC, changed=False)
            row[name] = {
                "object": errors(world.object_head, z_SND, poses_SL4),
                "home": errors(world.home_head, z_SND, poses_SL4),
            }
        rows.append(row)
    write_json(OUT, {"scenes": TEST[0].number, "rows": rows})
    fill_blocks(PAGE, {"home_head": table(rows)})


def errors(head: ObjectHead | None, z_SND: Tensor, poses_SL4: Tensor) -> dict[str, float]:
    """Return quantiles of the distance of decoded from true positions [m]."""
    assert head is not None
    error_SL, _ = pose_errors(head.locate(z_SND), poses_SL4)
    found = error_SL[torch.isfinite(error_SL)]
    return {f"{q:g}": float(found.quantile(q)) for q in (0.5, 0.9, 0.97)}


def table(rows: list[dict[str, Any]]) -> str:
    """Format the errors of both heads of each model."""
    cells = []
    for row in rows:
        names = ", ".join(row["objects"]) or "the task's own"
        found = [row[model][head] for model in MODELS for head in ("object", "home")]
        quantiles = [" / ".join(f"{100 * v:.1f}" for v in each.values()) for each in found]
        cells.append([f"{row['task']}: {names}", *quantiles])
    columns = [f"`{model}`, {head} head" for model in MODELS for head in ("object", "home")]
    return markdown_table(["scenes", *columns], cells)


def main() -> None:
    """Train the head, and write the weights with it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if sys.argv[1:] == ["check"]:
        check()
        return
    start, out, folder = read_words(sys.argv[1:])
    world = load_world_model(str(start), "cpu")
    assert world.object_head is not None, "the home head starts from the object head"
    tokens, poses = [], []
    for scenes in TRAIN if folder is None else SQUEEZED:
        if folder is None:
            images_SHWC, poses_SL4 = render(scenes, SIZE)
        else:
            images_SHWC, poses_SL4 = squeezed(scenes, SIZE, folder)
        for changed in (False, *[True] * COPIES[folder is not None]):
            tokens.append(encode(world, images_SHWC, changed=changed))
            poses.append(poses_SL4)
    head = train(world.object_head, torch.cat(tokens), torch.cat(poses))
    description = read_description(start)
    assert description is not None, "world models have a description"
    whole = WorldModel(world.encoder, world.dynamics, world.object_head, world.macro, head)
    save(out, whole, notes=description["notes"], dtype=torch.float16)


def read_words(words: list[str]) -> tuple[Path, Path, Path | None]:
    """Return the weights to start from, those to write, and the folder of squeezed scenes."""
    paths = [Path(word) for word in words if "=" not in word]
    others = [word.removeprefix("squeezes=") for word in words if "=" in word]
    if len(paths) != 2 or len(others) > 1 or any("=" in other for other in others):
        raise SystemExit(__doc__)
    return paths[0], paths[1], Path(others[0]) if others else None


if __name__ == "__main__":
    main()
