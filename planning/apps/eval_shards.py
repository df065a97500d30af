"""Evaluate in shards of episodes, and join them.

A shard keeps every finished episode in `episodes/AGENT-SEED.npz`; a run that was stopped resumes
after them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planning.apps.episode_files import load_episode
from planning.apps.episode_runner import PLANNER, episode_mapper
from planning.apps.evaluate import baselines_of, describe, report, run_episodes
from planning.apps.failures import begin_log, exceptions_of, log_failure, require_an_episode
from planning.apps.kept_episodes import COMMAND, KeptEpisodes, facts_of, open_hashed
from planning.apps.own_encoder import split_code
from planning.errors import PlanError
from planning.macro_options import MacroSearchOptions
from planning.options import EvalOptions, SceneOptions
from planning.planner_options import GoalPlannerOptions
from planning.rollout import Episode
from planning.shard_options import ShardOptions
from planning.skill_options import SkillOptions
from worldmodel.checkpoints.loading import load_world_model, place
from worldmodel.models.model_hash import model_hash
from worldmodel.shards import Shard, begin_shard, finish_shard, read_shards


def evaluate_shard(options: EvalOptions) -> dict[str, Any]:
    """Run the episodes of the shard `options.part`; return their counts.

    Episodes that an exception ended are kept as failures; the next start runs them again, and those
    whose file is damaged.

    Raises:
        ConfigError: The shard's folder holds episodes of other options or another model.
        PlanError: An exception ended each episode of the planner.
    """
    options = options.resolved()
    if split_code(options.model)[1]:
        raise PlanError(
            f"model={options.model} names code, and `worldmodel merge` takes none from the records "
            "of shards. Leave shard= out; workers= runs episodes side by side."
        )
    shard = Shard(number=options.part.shard or 0, count=options.part.shards)
    folder = shard.folder(Path(options.out))
    world, digest = open_hashed(options)
    agents = (PLANNER, *baselines_of(options, world))
    record = begin_shard(folder, COMMAND, shard, facts_of(options, digest, world, agents))
    indices = shard.of(range(options.episodes))
    kept = KeptEpisodes(folder, options.seed)
    todo = {agent: kept.missing(agent, indices) for agent in agents}
    found: dict[str, list[Episode]] = {}
    if any(todo.values()):
        begin_log(folder)
        with episode_mapper(options, world) as mapper:
            for agent, missing in todo.items():
                keep = functools.partial(kept.save, agent)
                found[agent], interrupted = run_episodes(mapper, agent, missing, folder, keep)
                if interrupted:
                    return {"interrupted": True} | exceptions_of(folder, found)
    played = sum(map(len, todo.values()))
    counts = {"episodes": len(indices), "agents": len(agents), "played": played}
    finish_shard(folder, record, counts)
    require_an_episode(folder, PLANNER, found.get(PLANNER, []))
    return counts | {"interrupted": False} | exceptions_of(folder, found)


def merge_evaluation(out: Path) -> tuple[dict[str, Any], Path]:
    """Write summary and report of all shards; return the summary and the report's path.

    Raises:
        DataError: A shard is missing, unfinished or there twice.
        ConfigError: The shards are not of one run.
        PlanError: A file of an episode is missing or damaged, the model has changed, or an
            exception ended each episode of the planner.
    """
    shards = read_shards(out)
    made_by = shards[0][1].made_by
    options = dataclasses.replace(read_options(made_by["options"]), out=str(out))
    world = load_world_model(options.model, "cpu", "float32")
    if model_hash(world) != made_by["model_hash"]:
        raise PlanError(
            f"model={options.model} has changed since the shards of {out} were made. Restore it, "
            "or run the shards again into another out=."
        )
    world = place(world, "auto", options.precision)
    found: dict[str, list[Episode]] = {}
    begin_log(out)
    for agent in made_by["agents"]:
        files = [
            KeptEpisodes(shards[index % len(shards)][0], options.seed).path(agent, index)
            for index in range(options.episodes)
        ]
        found[agent] = [_finished(file) for file in files]
        for episode in found[agent]:
            log_failure(out, agent, episode)
    evaluation = describe(options, world, found, interrupted=False)
    written = report(options, evaluation)
    require_an_episode(out, PLANNER, evaluation.episodes)
    return written


def _finished(path: Path) -> Episode:
    try:
        return load_episode(path)
    except PlanError as error:
        raise PlanError(f"{error} Run its shard again, which plays that episode alone.") from error


def read_options(values: Mapping[str, Any]) -> EvalOptions:
    """Return the options that a record holds.

    Raises:
        PlanError: They are not valid; the message names the option.
    """
    values = dict(values)
    planner = dict(values.pop("planner"))
    skills = SkillOptions(**planner.pop("skill_search"))
    macros = MacroSearchOptions(**planner.pop("macro_search"))
    return EvalOptions(
        scene=SceneOptions(**values.pop("scene")),
        planner=GoalPlannerOptions(skill_search=skills, macro_search=macros, **planner),
        part=ShardOptions(),
        **values,
    )
