"""`worldmodel collect`: record simulated episodes in raw DROID layout."""

from __future__ import annotations

import json

from envs.config import CollectConfig

Options = CollectConfig


def run(options: CollectConfig) -> int:
    """Collect, then print the summary."""
    from envs.collect import collect

    print(json.dumps(collect(options), indent=2))
    return 0
