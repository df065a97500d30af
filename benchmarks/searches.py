"""Evaluations of the model per action: searches one after another, or all in one batch.

Tuning episodes are run with searches one after another, of which the planner runs what an action
turns out to need. Every few actions it also plans from the same state in one batch, which searches
everything that an action may need with the same random numbers, so that the plan must be the same.

    python benchmarks/searches.py [--episodes 24] [--every 8] [--workers 1]  # and docs/planning.md
    python benchmarks/searches.py page                                       # only the page

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
from torch import Tensor

from planning.apps.episode_runner import EpisodeRunner
from planning.apps.policies import open_policy, planner_config
from planning.options import EvalOptions, SceneOptions, Task
from planning.planner import Memory, Observation, Planner
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.search import Plan
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.kept_results import KeptResults

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "searches.json", HERE.parent / "docs" / "planning.md"
TUNING = 50
"""Evaluation seed whose episodes are for tuning only."""
WAYS = ("one after another", "in one batch")
TASKS: tuple[Task, ...] = ("pick_place", "grasp")
SAME = 1e-5
"""Maximum difference of equal actions [m, gripper]: rounding differs with the size of a batch."""
MEANS = ("calls", "frames", "cpu_s")
"""Figures of a plan."""


class BothWays(Planner):
    """Plans one search after another, and every few actions in one batch as well.

    Args:
        planner: Planner of a policy.
        batch: Planner with the same settings, in one batch.
        every: Number of actions from one comparison to the next.
    """

    def __init__(self, planner: Planner, batch: Planner, every: int) -> None:
        super().__init__(planner.model, planner.config, planner.bounds)
        self.batch, self.every, self.actions = batch, every, 0
        self.compared: list[dict[str, Any]] = []

    def plan(  # type: ignore[override]
        self, observation: Observation, goal_1ND: Tensor, memory: Memory | None = None
    ) -> tuple[Plan, Memory]:
        """Plan one search after another; compare if it is time to."""
        memory = memory or Memory.start()
        before = memory.generator.get_state()
        plan, after, seconds = timed_plan(super().plan, observation, goal_1ND, memory)
        self.actions += 1
        if self.actions % self.every == 0:
            generator = torch.Generator()
            generator.set_state(before)
            self.batch.bounds = self.bounds
            copy = replace(memory, generator=generator)
            found, ahead, took = timed_plan(self.batch.plan, observation, goal_1ND, copy)
            same = found.actions_KA.shape == plan.actions_KA.shape and torch.allclose(
                found.actions_KA, plan.actions_KA, atol=SAME, rtol=0
            )
            states = (after.generator.get_state(), ahead.generator.get_state())
            row = {"same": same and torch.equal(*states)}
            for name, of, cpu_s in zip(WAYS, (plan, found), (seconds, took), strict=True):
                row[name] = {"calls": of.calls, "frames": of.frames, "cpu_s": cpu_s}
            self.compared.append(row)
        return plan, after


def timed_plan(plan: Any, *words: Any) -> tuple[Plan, Memory, float]:
    """Return a plan, the next memory, and the processor time [s]."""
    began = time.process_time()
    found, memory = plan(*words)
    return found, memory, time.process_time() - began


@functools.cache
def runner(task: Task, every: int) -> EpisodeRunner:
    """Return a runner of a task's tuning episodes."""
    options = EvalOptions(scene=SceneOptions(task=task), seed=TUNING, pictures=False).resolved()
    world, p = load_world_model(options.model, "cpu"), options.resolved_planner()
    policy = open_policy(world, p)
    cem = DeviceCEM(
        num_samples=p.samples, iterations=p.iterations, num_elites=p.num_elites, device="cpu"
    )
    config = replace(planner_config(p), optimiser=cem, together=True)
    batch = Planner(world, config, policy.planner.bounds)
    policy.planner = BothWays(policy.planner, batch, every)
    return EpisodeRunner(options, policy, world)


def run_episode(task: Task, index: int, every: int) -> dict[str, Any]:
    """Run an episode; return its success, number of actions, and what was compared."""
    torch.set_num_threads(1)
    run = runner(task, every)
    planner = run.policy.planner
    assert isinstance(planner, BothWays)
    planner.actions, planner.compared = index % every, []  # other actions in each episode
    episode = run(("planner", index))
    return {
        "success": episode.success,
        "actions": len(episode.actions),
        "compared": planner.compared,
    }


def measure(episodes: int, every: int, workers: int, keep: Path) -> dict[str, Any]:
    """Run the episodes of every task; those that `keep` holds are not run again."""
    jobs = {f"{task}, {index}": (task, index) for index in range(episodes) for task in TASKS}
    with KeptResults(keep, {"tasks": TASKS, "seed": TUNING, "every": every}) as kept:
        left = {key: job for key, job in jobs.items() if kept.get(key) is None}
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(run_episode, *job, every): key for key, job in left.items()}
            for done in as_completed(running):
                kept.add(running[done], done.result())
                print(running[done], done.result()["success"], flush=True)
        found = {key: kept.get(key) for key in jobs}
    rows = []
    for task in TASKS:
        rows += task_rows(task, [found[f"{task}, {index}"] for index in range(episodes)])
    return {"every": every, "rows": rows}


def task_rows(task: Task, episodes: list[Any]) -> list[dict[str, Any]]:
    """Return successes, and for both ways the means of the actions that were compared."""
    compared = [row for episode in episodes for row in episode["compared"]]
    shared = {
        "task": task,
        "successes": sum(episode["success"] for episode in episodes),
        "episodes": len(episodes),
        "actions": sum(episode["actions"] for episode in episodes),
        "compared": len(compared),
        "same": sum(row["same"] for row in compared),
    }
    return [
        {"searches": name, **shared}
        | {key: sum(row[name][key] for row in compared) / len(compared) for key in MEANS}
        for name in WAYS
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows."""
    head = ["task", "success", "searches of an action", "same plans", "calls"]
    head += ["frames imagined", "CPU s"]
    cells = [
        [
            r["task"],
            f"{r['successes']}/{r['episodes']}",
            r["searches"],
            f"{r['same']}/{r['compared']}",
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
    parser.add_argument(
        "--every", type=int, default=8, help="actions from one comparison to the next"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.what == "measure":
        options.out.parent.mkdir(parents=True, exist_ok=True)
        keep = options.out.with_suffix(".jsonl")
        found = measure(options.episodes, options.every, options.workers, keep)
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        keep.unlink()
    if options.out == OUT:
        write_page(json.loads(OUT.read_text(encoding="utf-8")))
        print(PAGE)
    print(table(json.loads(options.out.read_text(encoding="utf-8"))["rows"]))


if __name__ == "__main__":
    main()
