"""Demonstrate the planner: a few episodes toward one goal image, beside two baselines."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from planning.apps.embodiment import warn_of_embodiment
from planning.apps.episode_runner import PLANNER
from planning.apps.eval_summary import decision_figures, rates_of, summarise
from planning.apps.evaluate import Evaluation, evaluate_agents
from planning.apps.failures import begin_log, exceptions_of, require_an_episode
from planning.apps.own_encoder import open_world
from planning.options import DemoOptions, EvalOptions, SceneOptions, Task
from planning.report.page import write_report
from planning.report.video import webp_bytes
from planning.report.views import beside_goals
from planning.rollout import Episode
from worldmodel.atomic_io import write_bytes
from worldmodel.models.world_model import WorldModel

TASKS: tuple[Task, ...] = ("pick_place", "push")
"""Tasks that share the episodes; the first one gets more of an odd number."""
BASELINES = ("geometry", "pose_only")


def _evaluate_task(
    options: DemoOptions, task: Task, episodes: int, world: WorldModel
) -> tuple[EvalOptions, Evaluation]:
    settings = EvalOptions(
        scene=SceneOptions(task=task, embodiment=options.embodiment),
        sub_goals="one",
        model=options.model,
        device=options.device,
        precision=options.precision,
        episodes=episodes,
        seed=options.seed,
        planner=options.planner,
        workers=options.workers,
        out=options.out,
    ).resolved()
    without_head = world.object_head is None
    return settings, evaluate_agents(settings, world, BASELINES[without_head:])


def demonstrate(options: DemoOptions) -> tuple[dict[str, Any], Path]:
    """Run the planner and the baselines on each task.

    Returns:
        Summary over all episodes, with the rates of each task in `tasks`, and the report's path.

    Raises:
        PlanError: An exception ended each episode of the planner.
    """
    out = Path(options.out)
    begin_log(out)
    warn_of_embodiment(options.model, options.embodiment)
    world = open_world(options.model, options.device, options.precision)
    episodes: list[Episode] = []
    others: dict[str, list[Episode]] = defaultdict(list)
    tasks: dict[str, dict[str, Any]] = {}
    interrupted = False
    for i, task in enumerate(TASKS):
        count = (options.episodes + len(TASKS) - 1 - i) // len(TASKS)
        if interrupted or not count:
            continue
        settings, found = _evaluate_task(options, task, count, world)
        interrupted = bool(found.summary["interrupted"])
        episodes += found.episodes
        for name, rows in found.others.items():
            others[name] += rows
        rates = {name: rates_of(rows) for name, rows in found.others.items()}
        tasks[task] = {"planner": rates_of(found.episodes), **rates}
    summary = summarise(episodes, others, settings, settings.scene) | decision_figures(episodes)
    summary |= {"task": ", ".join(tasks), "tasks": tasks, "interrupted": interrupted}
    summary |= exceptions_of(out, {PLANNER: episodes, **others})
    page = write_report(out, "Skills by imagination", summary, episodes, dict(others))
    imagined = any(episode.imagined for episode in episodes)
    frames = [frame for e in episodes for frame in beside_goals(e, imagined=imagined)]
    if frames:
        write_bytes(out / "demo.webp", webp_bytes(frames, scale=2))
    if not interrupted:
        require_an_episode(out, PLANNER, episodes)
    return summary, page
