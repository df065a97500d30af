"""Measure whether decoded pictures show the object, and write it into docs/model-card.md.

    python benchmarks/picture_decoder.py [episodes=60] [pictures=FILE.png]

Each episode is an unseen scene of pick_place in which the scripted expert carries the object. The
object's pixels are those that differ from a rendering of the same state without it. The frame and
its latent are taken at the start, and after 10 actions, while the object is carried; there the
latent is also imagined from the first frame and the actions. The reference is the first frame.

An object is shown if the decoded picture is, over the object's pixels, nearer to the frame than to
the rendering without the object. Writes benchmarks/results/picture_decoder.json; `pictures=` also
writes the first scenes as a picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from option_words import read_words
from page_blocks import fill_blocks, markdown_table

import envs
from envs.arm_env import ArmEnv
from envs.events import OUT_OF_SIGHT_M
from envs.expert import run_expert
from planning.report.video import png_bytes
from worldmodel import load_world_model
from worldmodel.atomic_io import write_bytes, write_json
from worldmodel.checkpoints.picture_decoder import decoder_path, load_decoder
from worldmodel.models.picture_decoder import shrink
from worldmodel.models.world_model import WorldModel

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "picture_decoder.json"
PAGE = HERE.parent / "docs" / "model-card.md"
MODEL = "one_goal_labelled"
FIRST_SEED = 5_950_000
ACTIONS = 10
OBJECT_LEVELS = 25
"""Difference between the frames with and without the object that makes a pixel its own [levels]."""
SHAPES = ("cube", "box", "cup", "long_box")
Picture = NDArray[np.uint8]
KINDS = {
    "start": "encoded, at the start",
    "encoded": f"encoded, after {ACTIONS} actions",
    "imagined": f"imagined, after {ACTIONS} actions",
}


def with_and_without(env: ArmEnv) -> tuple[Picture, Picture]:
    """Render the state with and without its object, [H, W, 3] each; the state stays the same."""
    shown, item = env.render(), env.items[0]
    state = env.data.qpos.copy()
    item.put(OUT_OF_SIGHT_M)
    empty = env.render()
    env.data.qpos[:] = state
    mujoco.mj_forward(env.model, env.data)
    return shown, empty


def episode(world: WorldModel, seed: int) -> dict[str, tuple[Picture, Picture, torch.Tensor]]:
    """Return the frame with and without the object, and the tokens, of each kind."""
    env = envs.make("pick_place", objects=(SHAPES[seed % len(SHAPES)],))
    env.reset(seed=seed)
    actions = [action for _, action in run_expert(env.arm, env.expert_points())][:ACTIONS]
    observation, _ = env.reset(seed=seed)
    first = with_and_without(env)
    z_1ND = world.encode(torch.from_numpy(first[0])[None])
    state_1S = torch.from_numpy(observation["state"])[None]
    for action in actions:
        env.step(action)
    last = with_and_without(env)
    env.close()
    actions_1KA = torch.from_numpy(np.stack(actions))[None]
    return {
        "start": (*first, z_1ND),
        "encoded": (*last, world.encode(torch.from_numpy(last[0])[None])),
        "imagined": (*last, world.unroll(z_1ND, state_1S, actions_1KA)[:, -1]),
    }


def measure(decoded: Picture, shown: Picture, empty: Picture, mean: Picture) -> dict[str, float]:
    """Return mean absolute errors [levels] over all pixels and over those of the object."""
    decoded_HW3, shown_HW3, empty_HW3, mean_HW3 = (
        x.astype(float) for x in (decoded, shown, empty, mean)
    )
    own_HW = np.abs(shown_HW3 - empty_HW3).max(-1) > OBJECT_LEVELS
    error_HW, empty_error_HW, mean_error_HW = (
        np.abs(x - shown_HW3).mean(-1) for x in (decoded_HW3, empty_HW3, mean_HW3)
    )
    away_HW = np.abs(decoded_HW3 - empty_HW3).mean(-1)
    return {
        "error": error_HW.mean(),
        "mean_picture_error": mean_error_HW.mean(),
        "object_error": error_HW[own_HW].mean(),
        "object_error_without_object": empty_error_HW[own_HW].mean(),
        "shown": float(error_HW[own_HW].mean() < away_HW[own_HW].mean()),
    }


def show(result: dict[str, dict[str, float]]) -> None:
    """Fill the table of the page."""
    head = [
        "latent",
        "error",
        "mean picture",
        "error at the object",
        "scene without it",
        "object shown",
    ]
    names = ("error", "mean_picture_error", "object_error", "object_error_without_object")
    cells = [
        [
            KINDS[kind],
            *(f"{row[name]:.1f}" for name in names),
            f"{row['shown']:.0f}/{row['scenes']:.0f}",
        ]
        for kind, row in result.items()
    ]
    fill_blocks(PAGE, {"decoder": markdown_table(head, cells)})


@torch.no_grad()
def main() -> None:
    """Decode the frames of all episodes; write result, table and pictures."""
    given = read_words(sys.argv[1:], {"episodes": "60", "pictures": ""})
    world, decoder = load_world_model(MODEL, "cpu"), load_decoder(decoder_path(MODEL))
    mean = (decoder.mean_3HW.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    columns = []
    for seed in range(FIRST_SEED, FIRST_SEED + int(given["episodes"])):
        found = episode(world, seed)
        reference = torch.from_numpy(found["start"][0])
        column: list[Picture] = []
        for kind, (*frames, z_1ND) in found.items():
            small = shrink(torch.from_numpy(np.stack(frames)), decoder.config.image_size).numpy()
            decoded = decoder.picture(z_1ND[0], reference)
            rows[kind].append(measure(decoded, *small, mean))
            column += [decoded] if kind == "imagined" else [small[0], decoded]
        columns.append(np.concatenate(column))
    result = {
        kind: {name: float(np.nanmean([row[name] for row in found])) for name in found[0]}
        | {"scenes": len(found), "shown": sum(row["shown"] for row in found)}
        for kind, found in rows.items()
    }
    write_json(OUT, {"model": MODEL, "first_seed": FIRST_SEED, "kinds": result})
    if given["pictures"]:
        write_bytes(Path(given["pictures"]), png_bytes(np.concatenate(columns[:12], axis=1)))
    show(result)


if __name__ == "__main__":
    main()
