"""`worldmodel drive`: move an arm toward goal images; a dry run by default."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from planning.arm_options import DriveOptions
from planning.cli.terminal import Terminal

Options = DriveOptions


def print_summary(summary: dict[str, Any], page: Path) -> None:
    """Print the outcome in a few lines, and the path of the report."""
    if summary["successes"] is not None:
        print(f"successes {summary['successes']}/{summary['episodes']}")
    cycle, parts = summary["cycle_s"]["median"], summary["cycle_parts_s"]
    if cycle is not None:
        shares = ", ".join(f"{name} {row['median']:.3f}" for name, row in parts.items())
        print(f"cycle, median: {cycle:.3f} s ({shares})")
    if summary["reasons"]:
        print(f"reasons: {json.dumps(summary['reasons'])}")
    for why in summary["stopped"]:
        print(f"ended early: {why}")
    print(page)
    if "exceptions" in summary:
        print(f"error: {summary['exceptions']}", file=sys.stderr)


def run(options: DriveOptions) -> int:
    """Connect, ask for confirmation, drive and print the outcome.

    Returns:
        0, or 1 if an exception ended an episode.
    """
    from planning.apps.drive import drive

    return int(drive(options, Terminal(), print_summary) > 0)
