"""Measure the effect of each appearance change of the held-out split on the planner.

For two images of the same scene that differ by a known move, the planner searches for the move
whose predicted frame equals the second image. Its error is measured on scenes that differ from the
training split in one factor.

    python benchmarks/appearance.py [model=default] [scenes=40] [shape=cube] [label=default]

Writes a labelled column of benchmarks/results/appearance.json, which benchmarks/evaluate.py shows.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from option_words import read_words
from tqdm import tqdm

import envs
from envs.appearance import SPLITS
from planning.bounds import Bounds
from planning.energy import energy
from planning.solvers.cem import CEM
from worldmodel.checkpoint import load
from worldmodel.checkpoints.loading import embedded_path

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "appearance.json"
TRAIN, HELD = SPLITS["train"], SPLITS["held_out"]
FACTORS = {
    "training split": TRAIN,
    "object colours": replace(TRAIN, hues=HELD.hues, colour_jitter=HELD.colour_jitter),
    "object sizes": replace(TRAIN, half_size_m=HELD.half_size_m),
    "table colours": replace(TRAIN, tables=HELD.tables),
    "checked table": replace(TRAIN, textures=("checks",)),
    "light": replace(TRAIN, light=HELD.light),
    "camera turned by up to 5 degrees": replace(TRAIN, camera_deg=HELD.camera_deg),
    "held-out split": HELD,
}
FIRST_SEED = 700_000
MOVE_M = 0.04
"""Maximum move along an axis between the images [m]."""


@torch.inference_mode()
def errors_m(world: Any, split: str, scenes: int, shape: str) -> np.ndarray:
    """Return the distance between planned and true move [scenes, m]."""
    env = envs.make("pick_place", split=split, objects=[shape], image_size=world.image_size[0])
    search = CEM(num_samples=200, iterations=5, num_elites=16)
    bounds, found = Bounds(gripper_free=False), []
    for seed in tqdm(range(FIRST_SEED, FIRST_SEED + scenes), desc=split, leave=False):
        env.reset(seed=seed)
        rng, pair = np.random.default_rng(seed), []
        for spread in (0.05, MOVE_M):
            action = np.zeros(7, dtype=np.float32)
            action[:3] = rng.uniform(-spread, spread, 3)
            pair.append(env.step(action)[0])
        z, goal = (world.encode(torch.from_numpy(seen["image"][None])) for seen in pair)
        state = torch.from_numpy(pair[0]["state"][None])

        def cost(actions: Any, z: Any = z, goal: Any = goal, state: Any = state) -> Any:
            return energy(world.unroll(z, state, actions)[:, -1], goal)

        plan = search.minimise(cost, bounds, torch.Generator().manual_seed(0))
        true = pair[1]["state"][:3] - pair[0]["state"][:3]
        found.append(float(np.linalg.norm(plan.actions_KA[0, :3].numpy() - true)))
    env.close()
    return np.array(found)


def main() -> None:
    """Measure, print and store the results."""
    defaults = {"model": "default", "scenes": "40", "shape": "cube", "label": ""}
    given = read_words(sys.argv[1:], defaults)
    world = load(given["model"], "cpu")
    file = Path(given["model"]) if Path(given["model"]).is_file() else embedded_path(given["model"])
    rows = {}
    for name, variant in FACTORS.items():
        SPLITS["factor"] = variant
        off = 100 * errors_m(world, "factor", int(given["scenes"]), given["shape"])
        rows[name] = {"median_cm": float(np.median(off)), "p90_cm": float(np.percentile(off, 90))}
        print(f"{name:33s} median {np.median(off):.2f} cm, 90th {np.percentile(off, 90):.2f} cm")
    kept = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    kept[given["label"] or given["model"]] = {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest()[:16],
        "scenes": int(given["scenes"]),
        "shape": given["shape"],
        "rows": rows,
    }
    OUT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(OUT)


if __name__ == "__main__":
    main()
