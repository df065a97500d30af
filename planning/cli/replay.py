"""`worldmodel replay`: show a drive's log, replan its actions and recheck its commands."""

from __future__ import annotations

from typing import Any

from planning.atomic_write import json_text
from planning.options import ReplayOptions

Options = ReplayOptions


def print_outcome(summary: dict[str, Any]) -> None:
    """Print the summary and the comparison with the log."""
    print(json_text(summary, indent=2))
    if summary["planned_again"]:
        verb = "replays" if summary["same"] else "does NOT replay"
        print(f"{verb} to the same actions: largest difference {summary['largest_difference']:.3g}")
        for row in summary["episodes"]:
            if row["planned_steps"] < row["steps"]:
                ended = f"{row['planned_steps']} of {row['steps']} steps"
                print(f"{row['log']}: planning again ends after {ended}")
    judged = [row["safety"] for row in summary["episodes"] if row["safety"]]
    if judged:
        verb = "judges" if summary["safety_same"] else "does NOT judge"
        count = sum(row["commands"] for row in judged)
        print(f"the safety layer {verb} {count} commands as in the log")


def run(options: ReplayOptions) -> int:
    """Replay a drive; the exit status is 1 if an action or a target differs."""
    from planning.apps.replay import replay

    summary, page = replay(options)
    print_outcome(summary)
    print(page)
    return 1 if False in (summary["same"], summary["safety_same"]) else 0
