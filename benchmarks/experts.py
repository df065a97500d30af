"""Measure the success rate of the scripted experts.

    python benchmarks/experts.py [episodes=100] [only=WORD]

Each row is an environment and a shape; the expert gets one attempt per seed, with full knowledge of
the state. Writes benchmarks/results/experts.json after every row, and the table of
docs/environments.md; `only=` runs the rows whose name contains a word and keeps the others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from option_words import read_words
from page_blocks import fill_blocks, markdown_table

import envs
from envs.tasks import TASKS
from planning.metrics import wilson

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "experts.json"
PAGE = HERE.parent / "docs" / "environments.md"
FIRST_SEED = 600_000
ROWS: dict[str, tuple[str, tuple[str, ...], str]] = {
    **{name: (name, (), "franka") for name in TASKS},
    "push_pose, T": ("push_pose", ("T",), "franka"),
    "two_objects, cup and box": ("two_objects", ("cup", "box"), "franka"),
    "over_wall, cup": ("over_wall", ("cup",), "franka"),
    "sort, cup and box": ("sort", ("cup", "box"), "franka"),
    **{f"droid: {name}": (name, (), "droid") for name in TASKS},
    "droid: pick_place, cylinder": ("pick_place", ("cylinder",), "droid"),
    "droid: push_pose, T": ("push_pose", ("T",), "droid"),
    "droid: sort, cup and box": ("sort", ("cup", "box"), "droid"),
}


def run_row(
    task: str, objects: tuple[str, ...], embodiment: str, episodes: int
) -> dict[str, object]:
    """Run the expert on consecutive seeds."""
    env = envs.make(task, objects=objects, embodiment=embodiment, image_size=16)
    steps, failed = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        env.reset(seed=seed)
        steps.append(env.solve(rounds=1))
        if not env.success():
            failed.append(seed)
    env.close()
    successes = episodes - len(failed)
    return {
        "episodes": episodes,
        "successes": successes,
        "ci95": wilson(successes, episodes),
        "median_steps": float(np.median(steps)),
        "most_steps": max(steps),
        "failed_seeds": failed,
    }


def show(kept: dict[str, dict[str, Any]]) -> None:
    """Write the table of all stored rows."""
    head = ["environment", "solved", "median steps", "most steps"]
    cells = [
        [
            name,
            f"{kept[name]['successes']}/{kept[name]['episodes']}",
            f"{kept[name]['median_steps']:.0f}",
            kept[name]["most_steps"],
        ]
        for name in ROWS
        if name in kept
    ]
    fill_blocks(PAGE, {"experts": markdown_table(head, cells)})


def main() -> None:
    """Run, print and store the rows."""
    given = read_words(sys.argv[1:], {"episodes": "100", "only": ""})
    kept = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    for name, (task, objects, embodiment) in ROWS.items():
        if given["only"] in name:
            kept[name] = run_row(task, objects, embodiment, int(given["episodes"]))
            print(name, kept[name], flush=True)
            OUT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    show(kept)


if __name__ == "__main__":
    main()
