"""`worldmodel collect`: record simulated episodes in the raw DROID layout."""

from __future__ import annotations

import json
from pathlib import Path

from envs.config import CollectConfig
from worldmodel.shutdown import exit_status

Options = CollectConfig


def run(options: CollectConfig) -> int:
    """Record the episodes and print the summary.

    Returns:
        0, or 130, 143 or 129 if a signal ended the recording early.
    """
    from envs.collect import collect
    from planning.skill_play import random_skill
    from worldmodel.atomic_io import write_json
    from worldmodel.data.writers.droid import write_episode
    from worldmodel.processes import run_jobs

    summary = collect(options, write_episode, random_skill, run_jobs)
    write_json(Path(options.out) / "summary.json", summary)
    print(json.dumps(summary, indent=2))
    return exit_status() if summary["interrupted"] else 0
