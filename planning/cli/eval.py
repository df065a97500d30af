"""`worldmodel eval`: success rates of planner and baselines on unseen seeds, with a report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from planning.options import EvalOptions
from worldmodel.shutdown import exit_status

Options = EvalOptions


def print_table(summary: dict[str, Any]) -> None:
    """Print the success rates of planner and baselines, one per line."""
    rows = {"planner": summary, **summary["baselines"]}
    for name, row in rows.items():
        low, high = row["ci95"]
        error = row["final_error_m"]["median"]
        shown = "no episodes" if error is None else f"median error {100 * error:.1f} cm"
        print(
            f"{name:12s} {row['successes']:3d}/{row['episodes']:<3d} {row['success_rate']:6.1%} "
            f"[{low:.1%}, {high:.1%}]  {shown}"
        )


def print_pace(summary: dict[str, Any]) -> None:
    """Print the median time per action and, with skills, per decision."""
    pace = summary["seconds_per_action"]["median"]
    print("no actions" if pace is None else f"seconds per action, median: {pace:.3f}")
    counts = summary.get("evaluations_per_action")
    if counts is not None:
        calls, frames = counts["calls"]["median"], counts["frames"]["median"]
        print(f"the model per action, median: {calls:.0f} calls, {frames:.0f} imagined frames")
    decision = summary.get("seconds_per_decision", {}).get("median")
    if decision is not None:
        shares = summary["decision_shares"].items()
        parts = ", ".join(f"{name} {share:.0%}" for name, share in shares)
        print(f"seconds per decision, median: {decision:.2f} ({parts})")


def run(options: EvalOptions) -> int:
    """Evaluate, then print the success rates and the path of the report.

    Returns:
        0, 1 if an exception ended an episode, or 130, 143 or 129 if a signal ended the evaluation.
    """
    if options.part.shard is not None:
        from planning.apps.eval_shards import evaluate_shard

        part = evaluate_shard(options)
        print(json.dumps(part, indent=2))
        return status_of(part)
    from planning.apps.evaluate import evaluate

    summary, page = evaluate(options)
    print_evaluation(summary, page)
    return status_of(summary)


def status_of(summary: dict[str, Any]) -> int:
    """Return a command's exit status, and name the first episode that an exception ended.

    Returns:
        130, 143 or 129 after a signal, 1 after an exception in an episode, otherwise 0.
    """
    if "exceptions" in summary:
        print(f"error: {summary['exceptions']}", file=sys.stderr)
    if summary["interrupted"]:
        return exit_status()
    return int("exceptions" in summary)


def print_evaluation(summary: dict[str, Any], page: Path) -> None:
    """Print success rates, times and the path of the report."""
    print_table(summary)
    print_pace(summary)
    print(page)
