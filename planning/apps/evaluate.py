"""Evaluate a planner and its baselines in simulation."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from planning.apps.episode_runner import PLANNER, SKILL_BASELINES, Mapper, episode_mapper
from planning.apps.eval_summary import decision_figures, summarise, write_imagined
from planning.apps.failures import (
    begin_log,
    exceptions_of,
    have_all_failed,
    log_failure,
    require_an_episode,
)
from planning.apps.imagined import add_imagined
from planning.apps.kept_episodes import KeptEpisodes, facts_of, open_hashed, unfinished
from planning.options import EvalOptions
from planning.report.page import write_report
from planning.report.recording import require_rerun, write_recordings
from planning.rollout import Episode
from worldmodel.models.world_model import WorldModel
from worldmodel.shutdown import name_of

log = logging.getLogger(__name__)

BASELINES = ("hold", "random", "pose_only")


def run_episodes(
    mapper: Mapper,
    agent: str,
    indices: Sequence[int],
    out: Path,
    keep: Callable[[Episode], None] = lambda _: None,
) -> tuple[list[Episode], bool]:
    """Run episodes of one agent.

    Args:
        mapper: Function that runs episodes.
        agent: Name of the agent.
        indices: Indices of the episodes.
        out: Folder of the log of exceptions.
        keep: Called with each episode as soon as it ends.

    Returns:
        The finished episodes in the order of their seeds, and whether a signal ended them early.
    """
    done: list[Episode] = []
    interrupted = False
    with tqdm(total=len(indices), desc=agent, unit="episode") as bar:
        try:
            for episode in mapper([(agent, index) for index in indices]):
                done.append(episode)
                log_failure(out, agent, episode)
                keep(episode)
                bar.update(1)
                bar.set_postfix(success=sum(e.success for e in done) / len(done))
        except KeyboardInterrupt as error:
            name = name_of(error)
            log.warning("Stopped by %s: %d episodes of %s are finished.", name, len(done), agent)
            interrupted = True
    return sorted(done, key=lambda episode: episode.seed), interrupted


def run_agents(
    options: EvalOptions, world: WorldModel, baselines: tuple[str, ...], kept: KeptEpisodes | None
) -> tuple[dict[str, list[Episode]], bool]:
    """Run the planner and baselines; a signal keeps the finished episodes and skips the others.

    Exceptions in all of the planner's episodes skip the baselines.

    Args:
        options: Resolved options.
        world: Placed model.
        baselines: Names of the baselines.
        kept: Episodes that a stopped run finished, to which those of this run are added.

    Returns:
        Episodes by agent, and whether a signal ended them early.
    """
    found: dict[str, list[Episode]] = {}
    with episode_mapper(options, world) as mapper:
        for agent in (PLANNER, *baselines):
            found[agent], interrupted = _run_missing(options, mapper, agent, kept)
            if interrupted:
                return found, True
            if have_all_failed(found[PLANNER]):
                break
    return found, False


def _run_missing(
    options: EvalOptions, mapper: Mapper, agent: str, kept: KeptEpisodes | None
) -> tuple[list[Episode], bool]:
    """Return all finished episodes of an agent, after running those that are not kept."""
    out, indices = Path(options.out), range(options.episodes)
    if kept is None:
        return run_episodes(mapper, agent, indices, out)
    found = {index: kept.load(agent, index) for index in indices}
    missing = [index for index, episode in found.items() if episode is None]
    keep = functools.partial(kept.save, agent)
    new, interrupted = run_episodes(mapper, agent, missing, out, keep)
    done = [episode for episode in found.values() if episode is not None]
    if done:
        log.info("%s: %d episodes of a stopped run are used.", agent, len(done))
    return sorted(done + new, key=lambda episode: episode.seed), interrupted


def baselines_of(options: EvalOptions, world: WorldModel) -> tuple[str, ...]:
    """Return the baselines that apply to the planner's method and model."""
    if not options.baselines:
        return ()
    if options.resolved_planner().method != "skills":
        return BASELINES
    if world.object_head is None:
        log.warning(
            "The model has no object head: the baselines geometry and geometry_yaw are left out."
        )
        return (*BASELINES, "copy")
    return (*BASELINES, *SKILL_BASELINES)


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation."""

    summary: dict[str, Any]
    """Values of `summary.json`."""
    episodes: list[Episode]
    """Episodes of the planner."""
    others: dict[str, list[Episode]]
    """Episodes of each baseline."""


def evaluate_agents(
    options: EvalOptions,
    world: WorldModel,
    baselines: tuple[str, ...],
    kept: KeptEpisodes | None = None,
) -> Evaluation:
    """Run the planner and baselines, and add pictures of what the planner imagined."""
    found, interrupted = run_agents(options, world, baselines, kept)
    return describe(options, world, found, interrupted=interrupted)


def describe(
    options: EvalOptions, world: WorldModel, found: dict[str, list[Episode]], *, interrupted: bool
) -> Evaluation:
    """Summarise the episodes of all agents, and add pictures of what the planner imagined."""
    ends: dict[str, Any] = {"interrupted": interrupted}
    ends |= exceptions_of(Path(options.out), found)
    episodes = found.pop(PLANNER)
    summary = summarise(episodes, found, options, options.scene)
    planner = options.resolved_planner()
    summary["planner"] = planner.as_dict()
    if planner.method == "skills":
        summary |= decision_figures(episodes)
        write_imagined(Path(options.out), episodes)
        try:
            add_imagined(episodes, options.model, world)
        except Exception as error:  # noqa: BLE001 - these pictures must not cost the report
            log.warning("The report has no imagined pictures (%s).", error)
    return Evaluation(summary | ends, episodes, found)


def evaluate(options: EvalOptions) -> tuple[dict[str, Any], Path]:
    """Run the planner and the baselines; return the summary and the report's path.

    Every finished episode is kept in `OUT/unfinished` until the report is written, so that the same
    evaluation resumes after a signal or a kill.

    Raises:
        ConfigError: `OUT/unfinished` holds episodes of other options or another model.
        PlanError: An exception ended each episode of the planner.
    """
    options = options.resolved()
    if options.rerun:
        require_rerun()
    out = Path(options.out)
    world, digest = open_hashed(options)
    baselines = baselines_of(options, world)
    facts = facts_of(options, digest, world, (PLANNER, *baselines))
    with unfinished(out, facts, options.seed) as kept:
        begin_log(out)
        found = evaluate_agents(options, world, baselines, kept)
        written = report(options, found)
        if found.summary["interrupted"]:
            log.warning("The same command runs the missing episodes; %s has the others.", out)
            return written
        kept.clear()
    require_an_episode(out, PLANNER, found.episodes)
    return written


def report(options: EvalOptions, found: Evaluation) -> tuple[dict[str, Any], Path]:
    """Write the files of an evaluation; return the summary and the report's path."""
    summary = found.summary
    title = f"{options.task_name}: {summary['successes']} of {summary['episodes']} episodes"
    page = write_report(Path(options.out), title, summary, found.episodes, found.others)
    if options.rerun:
        write_recordings(Path(options.out) / "rerun", found.episodes)
    return summary, page
