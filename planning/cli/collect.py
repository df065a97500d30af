"""`worldmodel collect`: record simulated episodes, as raw DROID or as LeRobot."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from envs.config import CollectConfig
from envs.errors import ConfigError
from worldmodel.shutdown import exit_status

Options = CollectConfig
RECORD = "collect.json"
"""Name of the file with the options of a data set."""
MAY_DIFFER = ("out", "episodes", "seed", "workers", "format")
"""Options that add episodes of the same kind."""
RAW = "raw"
"""Folder below `out` of the recordings that a LeRobot data set is made of."""


def require_same_options(options: CollectConfig) -> None:
    """Compare with the options of the episodes that `out` holds, and keep them for the next run.

    Raises:
        ConfigError: The episodes there were recorded with other options.
    """
    from worldmodel.atomic_io import read_json_lines, write_text

    file = Path(options.out) / RECORD
    given = {k: v for k, v in asdict(options).items() if k not in MAY_DIFFER}
    given = json.loads(json.dumps(given))
    stored = next(read_json_lines(file), given)
    episodes = any(Path(options.out).glob("*/*/*/episode-*"))
    if episodes and isinstance(stored, dict):
        # earlier versions had fewer options
        stored = json.loads(json.dumps(asdict(CollectConfig()))) | stored
        changed = [
            f"{k}={stored.get(k)} there, {v} here" for k, v in given.items() if stored.get(k) != v
        ]
        if changed:
            raise ConfigError(
                f"{options.out} holds episodes that were recorded with other options: "
                f"{'; '.join(changed)}. Give the same options, or another out="
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(given) + "\n")


def write_lerobot(raw: Path, out: Path, workers: int) -> dict[str, object]:
    """Write all recordings in `raw` as a LeRobot data set into `out`; return its summary."""
    from tempfile import TemporaryDirectory

    from worldmodel.data.convert import convert
    from worldmodel.data.index import build_index, open_manifest

    with TemporaryDirectory(prefix="worldmodel-index-") as index:
        build_index(raw, Path(index), workers=workers)
        return convert(open_manifest(Path(index)), out, replace=True)


def run(options: CollectConfig) -> int:
    """Record the episodes and print the summary.

    Returns:
        0, 1 if an exception ended an episode, or 130, 143 or 129 if a signal ended the recording.

    Raises:
        ConfigError: `out` holds episodes of other options.
        TaskError: An exception ended each episode.
    """
    from envs.collect import collect
    from envs.collect_failures import failures_of
    from envs.collect_gym import record_gym_episode
    from planning.skills.play import random_skill
    from worldmodel.atomic_io import write_json
    from worldmodel.data.readers.layouts import require_extra
    from worldmodel.data.writers.droid import write_episode
    from worldmodel.processes import run_jobs

    raw, record = options, None
    if options.format == "lerobot":
        require_extra("lerobot")
        raw = replace(options, out=str(Path(options.out) / RAW))
    require_same_options(raw)
    if raw.environment:
        from planning.apps.environments import open_environment

        open_environment(raw.environment, raw.image_size).close()  # fails before the workers start
        record = partial(record_gym_episode, raw, write_episode, open_environment)
    summary = collect(raw, write_episode, random_skill, run_jobs, record)
    problem = failures_of(summary, Path(raw.out))  # raises if there is nothing else
    if options.format == "lerobot" and not summary["interrupted"]:
        summary["lerobot"] = write_lerobot(Path(raw.out), Path(options.out), options.workers)
    write_json(Path(options.out) / "summary.json", summary)
    print(json.dumps(summary, indent=2))
    if problem:
        print(f"error: {problem}", file=sys.stderr)
    return exit_status() if summary["interrupted"] else int(bool(problem))
