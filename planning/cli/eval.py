"""`worldmodel eval`: success rates on unseen seeds beside baselines, with a report."""

from __future__ import annotations

import logging
import multiprocessing
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import envs
from envs.mujoco_arm import BOX_HIGH_M, BOX_LOW_M
from envs.tasks import get_task
from planning.agent import PlanningAgent
from planning.baselines import make_baseline
from planning.bounds import Bounds
from planning.metrics import median_p95, wilson
from planning.planner import Planner, PlannerConfig
from planning.protocols import Agent
from planning.report.page import write_report
from planning.rollout import Episode, run_episode, seconds_per_action, time_shares
from planning.solvers.registry import make_optimiser
from worldmodel.checkpoints.io import load
from worldmodel.models.world_model import WorldModel

log = logging.getLogger(__name__)
FIRST_SEED = 1_000_000
"""Seeds of evaluation begin here; training seeds lie far below."""


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class Options:
    """Options of `worldmodel eval`."""

    task: str = _text("reach", "reach, grasp, reach_with_object, pick_place or push")
    model: str = _text("default", "embedded name or safetensors file")
    episodes: int = _text(50, "how many")
    seed: int = _text(0, "evaluation seed; episode i starts from a seed of its own")
    split: str = _text("train", "looks: train or held_out (both with unseen seeds)")
    objects: list[str] = field(
        default_factory=lambda: ["cube"], metadata={"help": "cube, box, cup, cylinder"}
    )
    sub_goals: str = _text("default", "default, three (no lift) or one")
    optimiser: str = _text("cem", "cem (as published), icem, mppi, gradient or nevergrad")
    samples: int = _text(150, "plans imagined in an iteration")
    iterations: int = _text(4, "of the optimiser")
    elites: int = _text(12, "kept of each iteration")
    horizon: int = _text(1, "actions imagined ahead")
    stretch: int = _text(3, "equal steps toward a goal out of one step's reach, at most")
    approach_slope: float = _text(1.0, "height kept per lateral distance, going down (0: straight)")
    gate_m: float = _text(0.025, "gripper is planned only when the move is under this [m]")
    norm: str = _text("l1", "energy: l1 (as published) or l2")
    over: str = _text("final", "energy of the final imagined step, or the sum over steps")
    history: int = _text(1, "frames that the imagination looks back on: 1 or 2")
    warm_start: bool = _text(False, "begin where the last plan would go on")
    min_spread_m: float = _text(0.0, "a search stops when its best agree to this [m] (0: never)")
    deadline_s: float = _text(0.0, "a search stops after so long, with its best so far (0: never)")
    memory_gb: float = _text(4.0, "memory for plans that are imagined at once")
    baselines: bool = _text(True, "also run hold, random and pose_only")
    workers: int = _text(2, "processes")
    pictures: bool = _text(True, "keep frames for the report")
    out: str = _text("runs/eval", "folder of summary.json and report.html")


def planner_config(
    options: Options, gripper: str, chunk: int = 1024, device: str = "cpu"
) -> PlannerConfig:
    """The planner that these options describe, for a model's gripper convention and device.

    `chunk` is how many plans may be imagined at once; see `samples_at_once`.
    """
    return PlannerConfig(
        optimiser=make_optimiser(
            options.optimiser,
            samples=options.samples,
            iterations=options.iterations,
            elites=options.elites,
            min_spread_m=options.min_spread_m,
            device=device,
        ),
        bounds=Bounds(
            gripper="ternary" if gripper == "command" else "published",
            low_m=tuple(BOX_LOW_M),
            high_m=tuple(BOX_HIGH_M),
        ),
        horizon=options.horizon,
        stretch=options.stretch,
        approach_slope=options.approach_slope,
        gate_m=options.gate_m,
        norm=options.norm,
        over=options.over,
        history=options.history,
        warm_start=options.warm_start,
        deadline_s=options.deadline_s or None,
        chunk=chunk,
    )


def samples_at_once(world: WorldModel, options: Options) -> int:
    """Plans that fit into `memory_gb`: 1 or more."""
    each = world.bytes_per_sample(max(options.horizon, options.stretch))
    return max(1, int(options.memory_gb * 1e9 / each))


_CACHE: dict[str, Any] = {}


def _agent(options: Options, who: str) -> Agent:
    if who != "planner":
        return make_baseline(who)
    if "agent" not in _CACHE:
        world = load(options.model, "cpu")
        chunk = samples_at_once(world, options)
        config = planner_config(options, world.convention.gripper, chunk)
        _CACHE["agent"] = PlanningAgent(Planner(world, config))
    agent: Agent = _CACHE["agent"]
    return agent


def one_episode(job: tuple[Options, str, int]) -> Episode:
    """Run one episode (in a worker)."""
    options, who, index = job
    if "env" not in _CACHE:
        _CACHE["env"] = envs.make(options.task, split=options.split, objects=options.objects)
    seed = FIRST_SEED + 10_000 * options.seed + index
    return run_episode(
        _CACHE["env"],
        _agent(options, who),
        task=options.task,
        seed=seed,
        variant=options.sub_goals,
        keep_frames=options.pictures and who == "planner",
    )


def _start_worker() -> None:
    torch.set_num_threads(1)


@contextmanager
def _mapper(workers: int) -> Iterator[Any]:
    if workers <= 1:
        _CACHE.clear()
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_start_worker) as pool:
        yield pool.imap


def run_episodes(options: Options, who: str) -> list[Episode]:
    """Run all episodes of one agent; Ctrl-C returns those that are finished."""
    done: list[Episode] = []
    with _mapper(min(options.workers, options.episodes)) as mapped:
        try:
            jobs = mapped(one_episode, [(options, who, i) for i in range(options.episodes)])
            bar = tqdm(jobs, total=options.episodes, desc=who, unit="episode")
            for episode in bar:
                done.append(episode)
                bar.set_postfix(success=sum(e.success for e in done) / len(done))
        except KeyboardInterrupt:
            log.warning("stopped; %d episodes are finished", len(done))
    return done


def summarise(
    options: Options, episodes: list[Episode], baselines: dict[str, list[Episode]]
) -> dict[str, Any]:
    """The figures of an evaluation."""
    successes = sum(e.success for e in episodes)
    return {
        "task": options.task,
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": successes / max(1, len(episodes)),
        "ci95": wilson(successes, len(episodes)),
        "seconds_per_action": median_p95(seconds_per_action(episodes)),
        "final_error_m": median_p95([e.error_m for e in episodes]),
        "baselines": {
            name: {
                "successes": sum(e.success for e in rows),
                "episodes": len(rows),
                "success_rate": sum(e.success for e in rows) / max(1, len(rows)),
                "ci95": wilson(sum(e.success for e in rows), len(rows)),
                "final_error_m": median_p95([e.error_m for e in rows]),
            }
            for name, rows in baselines.items()
        },
        "model": options.model,
        "seed": options.seed,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "mujoco", "gymnasium", "numpy")},
        },
        "split": options.split,
        "objects": list(options.objects),
        "sub_goals": options.sub_goals,
        "planner": {
            "optimiser": options.optimiser,
            "samples": options.samples,
            "iterations": options.iterations,
            "elites": options.elites,
            "horizon": options.horizon,
            "norm": options.norm,
            "over": options.over,
            "history": options.history,
            "warm_start": options.warm_start,
            "min_spread_m": options.min_spread_m,
        },
        "time_shares": time_shares(episodes),
        "failures": dict(Counter(e.reason.split(" ended")[0] for e in episodes if e.reason)),
    }


def evaluate(options: Options) -> tuple[dict[str, Any], Path]:
    """Run the planner and the baselines; returns the summary and the report's path."""
    get_task(options.task)
    load(options.model, "cpu")  # an unknown or damaged model is an error before any episode
    episodes = run_episodes(options, "planner")
    names = ("hold", "random", "pose_only") if options.baselines else ()
    baselines = {name: run_episodes(options, name) for name in names}
    summary = summarise(options, episodes, baselines)
    title = f"{options.task}: {summary['successes']} of {summary['episodes']} episodes"
    return summary, write_report(Path(options.out), title, summary, episodes)


def print_table(summary: dict[str, Any]) -> None:
    """Success rates of planner and baselines, one a line."""
    rows = {"planner": summary, **summary["baselines"]}
    for name, row in rows.items():
        low, high = row["ci95"]
        error = row["final_error_m"]["median"]
        print(
            f"{name:10s} {row['successes']:3d}/{row['episodes']:<3d} {row['success_rate']:6.1%} "
            f"[{low:.1%}, {high:.1%}]  median error {100 * (error or 0):.1f} cm"
        )


def run(options: Options) -> int:
    """Evaluate, print a table and where the report lies."""
    summary, page = evaluate(options)
    print_table(summary)
    pace = summary["seconds_per_action"]["median"]
    print(f"seconds per action, median: {pace:.3f}" if pace else "no actions")
    print(page)
    return 0
