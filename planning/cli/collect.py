"""`worldmodel collect`: record simulated episodes in the raw DROID layout."""

from __future__ import annotations

import json
from pathlib import Path

from envs.config import CollectConfig

Options = CollectConfig


def run(options: CollectConfig) -> int:
    """Record the episodes and print the summary."""
    from envs.collect import collect
    from planning.skill_play import random_skill
    from worldmodel.atomic_io import write_json
    from worldmodel.data.writers.droid import write_episode

    summary = collect(options, write_episode, random_skill)
    write_json(Path(options.out) / "summary.json", summary)
    print(json.dumps(summary, indent=2))
    return 0
