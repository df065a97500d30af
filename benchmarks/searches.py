"""Evaluations of the model per action: searches one after another, or all in one batch.

The same tuning episodes are run both ways, in turns. One after another, the planner searches only
what an action turns out to need; in one batch, it searches everything that an action may need.

    python benchmarks/searches.py          # results/searches.json, docs/planning.md
    python benchmarks/searches.py page     # only the page
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from page_blocks import fill_blocks, markdown_table

from planning.apps.evaluate import EpisodeRunner, episode_seed
from planning.apps.policies import open_policy, planner_config
from planning.options import EvalOptions, SceneOptions, Task
from planning.planner import Planner
from planning.policy import Policy
from planning.rollout import Episode, evaluations_per_action
from planning.solvers.device_cem import DeviceCEM
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.models.world_model import WorldModel

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "searches.json", HERE.parent / "docs" / "planning.md"
EPISODES, TUNING = 24, 50
"""Episodes a row, and the evaluation seed whose episodes are for tuning only."""
TASKS: tuple[Task, ...] = ("pick_place", "grasp")


def policies(world: WorldModel, options: EvalOptions) -> dict[str, Policy]:
    """Return the default policy, and one that runs the searches of an action in one batch."""
    p = options.resolved_planner()
    config = planner_config(p)
    cem = DeviceCEM(
        num_samples=p.samples, iterations=p.iterations, num_elites=p.num_elites, device="cpu"
    )
    together = open_policy(world, p)
    bounds = together.planner.bounds
    together.planner = Planner(world, replace(config, optimiser=cem, together=True), bounds)
    return {"one after another": open_policy(world, p), "in one batch": together}


def measure(task: Task) -> list[dict[str, Any]]:
    """Run the episodes of a task both ways."""
    options = EvalOptions(
        scene=SceneOptions(task=task), seed=TUNING, episodes=EPISODES, pictures=False
    )
    world = load_world_model(options.resolved().model, "cpu")
    runners = {
        name: EpisodeRunner(options.resolved(), policy, world)
        for name, policy in policies(world, options.resolved()).items()
    }
    episodes: dict[str, list[Episode]] = {name: [] for name in runners}
    seconds = dict.fromkeys(runners, 0.0)
    for index in range(EPISODES):
        for name, runner in runners.items():
            start = time.process_time()
            episodes[name].append(runner(("planner", index)))
            seconds[name] += time.process_time() - start
        counts = {name: sum(e.success for e in found) for name, found in episodes.items()}
        print(task, episode_seed(TUNING, index), counts, flush=True)
    return [row(task, name, found, seconds[name]) for name, found in episodes.items()]


def row(task: Task, name: str, episodes: list[Episode], seconds: float) -> dict[str, Any]:
    """Return successes, mean evaluations and processor time of an action."""
    counts = evaluations_per_action(episodes)
    actions = len(counts["calls"])
    return {
        "task": task,
        "searches": name,
        "successes": sum(episode.success for episode in episodes),
        "episodes": len(episodes),
        "actions": actions,
        "calls": sum(counts["calls"]) / actions,
        "frames": sum(counts["frames"]) / actions,
        "cpu_s": seconds / actions,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows."""
    head = ["task", "searches of an action", "success", "calls", "frames imagined", "CPU s"]
    cells = [
        [
            r["task"],
            r["searches"],
            f"{r['successes']}/{r['episodes']}",
            f"{r['calls']:.1f}",
            f"{r['frames']:,.0f}",
            f"{r['cpu_s']:.2f}",
        ]
        for r in rows
    ]
    return markdown_table(head, cells)


def write_page(found: dict[str, Any]) -> None:
    """Fill the block of docs/planning.md."""
    fill_blocks(PAGE, {"searches": table(found["rows"])})


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "page" not in sys.argv:
        rows = [line for task in TASKS for line in measure(task)]
        OUT.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    write_page(json.loads(OUT.read_text(encoding="utf-8")))
    print(PAGE)
