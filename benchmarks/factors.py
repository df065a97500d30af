"""Measure how much each change of the scene costs the planner, one factor at a time.

    python benchmarks/factors.py [model=one_goal_labelled] [episodes=40] [workers=2]
                                 [tasks=pick_place,push] [factors=light,camera]

Each row is one task and one factor of `envs.factors`: the planner with skills and one goal image,
beside the baseline `geometry`, on the same seeds. Rows in benchmarks/results/factors/MODEL/ with as
many episodes are not run again, and neither are the finished episodes of a stopped row
(runs/factors). The table of docs/results.md has all rows of the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from option_words import read_names, read_words
from page_blocks import fill_blocks, markdown_table

from planning.apps.episode_runner import PLANNER
from planning.apps.eval_summary import summarise
from planning.apps.evaluate import run_agents
from planning.apps.kept_episodes import facts_of, open_hashed, unfinished
from planning.options import EvalOptions, Factor, SceneOptions

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "factors"
PAGE = HERE.parent / "docs" / "results.md"
OUT = Path("runs") / "factors"
TASKS = ("pick_place", "push", "push_pose", "over_wall")
SEED = 40
"""Evaluation seed; no training or tuning uses its episodes."""


def run_row(options: EvalOptions) -> dict[str, Any]:
    """Run planner and geometry on one task with one factor."""
    world, digest = open_hashed(options)
    baselines = () if world.object_head is None else ("geometry",)
    facts = facts_of(options, digest, world, (PLANNER, *baselines))
    with unfinished(Path(options.out), facts, options.seed) as kept:
        found, interrupted = run_agents(options, world, baselines, kept)
        if interrupted:
            raise SystemExit("stopped; finished episodes are kept")
        kept.clear()
    episodes = found.pop(PLANNER)
    return summarise(episodes, found, options, options.scene)


def count_of(file: Path) -> int:
    """Return the number of episodes of a finished row."""
    return int(json.loads(file.read_text(encoding="utf-8"))["episodes"])


def show(folder: Path) -> None:
    """Write the table of all finished rows."""
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    order = get_args(Factor)
    rows.sort(key=lambda row: (TASKS.index(row["task"]), order.index(row["factor"])))
    cells = []
    for row in rows:
        rates = {"planner": row, **row["baselines"]}
        counts = [rate_text(rates[name]) for name in ("planner", "geometry") if name in rates]
        cells.append([row["task"], row["factor"].replace("_", " "), *counts])
    table = markdown_table(["task", "factor", "planner", "geometry"], cells)
    fill_blocks(PAGE, {"factors": table if cells else ""})
    print(table)


def rate_text(found: dict[str, Any]) -> str:
    """Return successes with their 95 % interval."""
    low, high = found["ci95"]
    return f"{found['successes']}/{found['episodes']} ({low:.0%} to {high:.0%})"


def main() -> None:
    """Run the missing rows and print the table."""
    defaults = {
        "model": "one_goal_labelled",
        "episodes": "40",
        "workers": "2",
        "tasks": "all",
        "factors": "all",
    }
    given = read_words(sys.argv[1:], defaults)
    folder = RESULTS / Path(given["model"]).stem
    tasks = read_names(given, "tasks", TASKS)
    factors = read_names(given, "factors", get_args(Factor))
    folder.mkdir(parents=True, exist_ok=True)
    for factor in factors:
        for task in tasks:
            file = folder / f"{task}-{factor}.json"
            if file.is_file() and count_of(file) >= int(given["episodes"]):
                continue
            options = EvalOptions(
                scene=SceneOptions(task=task, factor=factor),
                model=given["model"],
                sub_goals="one",
                episodes=int(given["episodes"]),
                seed=SEED,
                workers=int(given["workers"]),
                pictures=False,
                device="cpu",
                out=str(OUT / folder.name / file.stem),
            ).resolved()
            row = run_row(options)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
            part.replace(file)
    show(folder)


if __name__ == "__main__":
    main()
