"""Measure how much each change of the scene costs the planner, one factor at a time.

    python benchmarks/factors.py [model=one_goal_labelled] [episodes=40] [workers=2]
                                 [tasks=pick_place,push] [factors=light,camera]

Each row is one task and one factor of `envs.factors`: the planner with skills and one goal image,
beside the baseline `geometry`, on the same seeds. Finished rows in
benchmarks/results/factors/MODEL/ are kept and not run again; the table is printed from all rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from page_blocks import markdown_table

from planning.apps.eval_summary import summarise
from planning.apps.evaluate import run_agents
from planning.options import EvalOptions, Factor, SceneOptions
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.models.world_model import WorldModel

RESULTS = Path(__file__).resolve().parent / "results" / "factors"
TASKS = ("pick_place", "push", "push_pose", "over_wall")
SEED = 40
"""Evaluation seed; no training or tuning uses its episodes."""


def run_row(world: WorldModel, options: EvalOptions) -> dict[str, Any]:
    """Run planner and geometry on one task with one factor."""
    baselines = () if world.object_head is None else ("geometry",)
    found, interrupted = run_agents(options, world, baselines)
    if interrupted:
        raise SystemExit("stopped; finished rows are kept")
    episodes = found.pop("planner")
    return summarise(episodes, found, options, options.scene)


def show(folder: Path) -> None:
    """Print the table of all finished rows."""
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    cells = []
    for row in rows:
        rates = {"planner": row, **row["baselines"]}
        counts = [
            f"{rates[name]['successes']}/{rates[name]['episodes']}" if name in rates else "-"
            for name in ("planner", "geometry")
        ]
        cells.append([row["task"], row["factor"], *counts])
    print(markdown_table(["task", "factor", "planner", "geometry"], cells))


def main() -> None:
    """Run the missing rows and print the table."""
    given = {
        "model": "one_goal_labelled",
        "episodes": "40",
        "workers": "2",
        "tasks": ",".join(TASKS),
        "factors": ",".join(get_args(Factor)),
    }
    for word in sys.argv[1:]:
        key, _, value = word.partition("=")
        if key not in given:
            raise SystemExit(f"unknown option {key!r}; known: {', '.join(given)}")
        given[key] = value
    folder = RESULTS / Path(given["model"]).stem
    folder.mkdir(parents=True, exist_ok=True)
    world = load_world_model(given["model"], "cpu")
    for factor in given["factors"].split(","):
        for task in given["tasks"].split(","):
            file = folder / f"{task}-{factor}.json"
            if file.is_file():
                continue
            options = EvalOptions(
                scene=SceneOptions(task=task, factor=factor),
                model=given["model"],
                sub_goals="one",
                episodes=int(given["episodes"]),
                seed=SEED,
                workers=int(given["workers"]),
                pictures=False,
            )
            row = run_row(world, options)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
            part.replace(file)
    show(folder)


if __name__ == "__main__":
    main()
