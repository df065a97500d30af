"""Evaluations of the model per action: searches one after another, or all in one batch.

The same tuning episodes are run both ways, in turns. One after another, the planner searches only
what an action turns out to need; in one batch, it searches everything that an action may need.

    python benchmarks/searches.py [--episodes 24] [--workers 1]  # and docs/planning.md
    python benchmarks/searches.py page                           # only the page

Episodes are kept as they end: a run that follows a stopped one runs the rest.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from page_blocks import fill_blocks, markdown_table

from planning.apps.episode_runner import EpisodeRunner
from planning.apps.policies import open_policy, planner_config
from planning.options import EvalOptions, SceneOptions, Task
from planning.planner import Planner
from planning.policy import Policy
from planning.rollout import evaluations_per_action
from planning.solvers.device_cem import DeviceCEM
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.kept_results import KeptResults
from worldmodel.models.world_model import WorldModel

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "searches.json", HERE.parent / "docs" / "planning.md"
TUNING = 50
"""Evaluation seed whose episodes are for tuning only."""
WAYS = ("one after another", "in one batch")
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
    return dict(zip(WAYS, (open_policy(world, p), together), strict=True))


@functools.cache
def runners(task: Task) -> dict[str, EpisodeRunner]:
    """Return a runner of a task's tuning episodes for each way of searching."""
    options = EvalOptions(scene=SceneOptions(task=task), seed=TUNING, pictures=False).resolved()
    world = load_world_model(options.model, "cpu")
    ways = policies(world, options)
    return {name: EpisodeRunner(options, policy, world) for name, policy in ways.items()}


def run_episode(task: Task, name: str, index: int) -> dict[str, Any]:
    """Run an episode; return its success, its evaluations of each action and processor time."""
    torch.set_num_threads(1)
    runner, start = runners(task)[name], time.process_time()
    episode = runner(("planner", index))
    seconds = time.process_time() - start
    return {"success": episode.success, "cpu_s": seconds, **evaluations_per_action([episode])}


def measure(episodes: int, workers: int, keep: Path) -> list[dict[str, Any]]:
    """Run the episodes of every task both ways; those that `keep` holds are not run again."""
    jobs = {
        f"{task}, {name}, {index}": (task, name, index)
        for index in range(episodes)
        for task in TASKS
        for name in WAYS
    }
    with KeptResults(keep, {"tasks": TASKS, "seed": TUNING}) as kept:
        left = {key: job for key, job in jobs.items() if kept.get(key) is None}
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(run_episode, *job): key for key, job in left.items()}
            for done in as_completed(running):
                kept.add(running[done], done.result())
                print(running[done], done.result()["success"], flush=True)
        found = {key: kept.get(key) for key in jobs}
    return [
        row(task, name, [found[f"{task}, {name}, {index}"] for index in range(episodes)])
        for task in TASKS
        for name in WAYS
    ]


def row(task: Task, name: str, episodes: list[Any]) -> dict[str, Any]:
    """Return successes, mean evaluations and processor time of an action."""
    calls = [count for episode in episodes for count in episode["calls"]]
    return {
        "task": task,
        "searches": name,
        "successes": sum(episode["success"] for episode in episodes),
        "episodes": len(episodes),
        "actions": len(calls),
        "calls": sum(calls) / len(calls),
        "frames": sum(sum(episode["frames"]) for episode in episodes) / len(calls),
        "cpu_s": sum(episode["cpu_s"] for episode in episodes) / len(calls),
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


def main() -> None:
    """Measure, unless only the page is written, and write the results and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", default="measure", choices=["measure", "page"])
    parser.add_argument("--episodes", type=int, default=24, help="episodes of a row")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.what == "measure":
        options.out.parent.mkdir(parents=True, exist_ok=True)
        keep = options.out.with_suffix(".jsonl")
        rows = measure(options.episodes, options.workers, keep)
        options.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
        keep.unlink()
    if options.out == OUT:
        write_page(json.loads(OUT.read_text(encoding="utf-8")))
        print(PAGE)
    print(table(json.loads(options.out.read_text(encoding="utf-8"))["rows"]))


if __name__ == "__main__":
    main()
