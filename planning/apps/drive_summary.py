"""Metrics of a drive: eval metrics plus robot metrics."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from planning.apps.eval_summary import summarise
from planning.arm_options import DriveOptions
from planning.metrics import median_p95
from planning.rollout import Episode


def drive_summary(
    options: DriveOptions, episodes: list[Episode], ended: list[str], reasons: Counter[str]
) -> dict[str, Any]:
    """Return the content of `summary.json`.

    Args:
        options: Options of the drive.
        episodes: Finished episodes.
        ended: Why each episode ended early; empty if it did not.
        reasons: Counts of the safety layer's changes and refusals by kind.
    """
    cell = options.workcell
    summary = summarise(episodes, {}, options, cell.scene)
    parts: dict[str, list[float]] = {}
    for episode in episodes:
        for name, values in episode.seconds.items():
            parts.setdefault(name, []).extend(values)
    cycles = [float(sum(row)) for row in zip(*parts.values(), strict=True)]
    if not any(np.isfinite(e.error_m) for e in episodes):
        summary["final_error_m"] = {"median": None, "p95": None}
    if options.goals and not options.judge:
        summary |= {"successes": None, "success_rate": None, "ci95": None}
    return summary | {
        "robot": cell.name,
        "execute": options.motion.execute,
        "dry_run": not options.motion.execute,
        "cycle_s": median_p95(cycles),
        "cycle_parts_s": {name: median_p95(values) for name, values in parts.items()},
        "reasons": dict(reasons),
        "stopped": [why for why in ended if why],
        "axes": options.axes,
        "data": "data",
        "logs": "logs",
    }
