"""`worldmodel collect`: record simulated episodes in the raw DROID layout."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from envs.config import CollectConfig
from envs.errors import ConfigError
from worldmodel.shutdown import exit_status

Options = CollectConfig
RECORD = "collect.json"
"""Name of the file with the options of a data set."""
MAY_DIFFER = ("out", "episodes", "seed", "workers")
"""Options that add episodes of the same kind."""


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


def run(options: CollectConfig) -> int:
    """Record the episodes and print the summary.

    Returns:
        0, or 130, 143 or 129 if a signal ended the recording early.

    Raises:
        ConfigError: `out` holds episodes of other options.
    """
    from envs.collect import collect
    from planning.skill_play import random_skill
    from worldmodel.atomic_io import write_json
    from worldmodel.data.writers.droid import write_episode
    from worldmodel.processes import run_jobs

    require_same_options(options)
    summary = collect(options, write_episode, random_skill, run_jobs)
    write_json(Path(options.out) / "summary.json", summary)
    print(json.dumps(summary, indent=2))
    return exit_status() if summary["interrupted"] else 0
