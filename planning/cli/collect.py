"""`worldmodel collect`: record simulated episodes in the raw DROID layout."""

from __future__ import annotations

import json

from envs.config import CollectConfig

Options = CollectConfig


def run(options: CollectConfig) -> int:
    """Collect the episodes and print the summary."""
    from envs.collect import collect
    from worldmodel.data.writers.droid import write_episode

    print(json.dumps(collect(options, write_episode), indent=2))
    return 0
