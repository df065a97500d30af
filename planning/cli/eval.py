"""`worldmodel eval`: success rates of planner and baselines on unseen seeds, with a report."""

from __future__ import annotations

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
            f"{name:10s} {row['successes']:3d}/{row['episodes']:<3d} {row['success_rate']:6.1%} "
            f"[{low:.1%}, {high:.1%}]  {shown}"
        )


def run(options: EvalOptions) -> int:
    """Evaluate, then print the success rates and the path of the report.

    Returns:
        0, or 130, 143 or 129 if a signal ended the evaluation early.
    """
    from planning.apps.evaluate import evaluate

    summary, page = evaluate(options)
    print_table(summary)
    pace = summary["seconds_per_action"]["median"]
    print("no actions" if pace is None else f"seconds per action, median: {pace:.3f}")
    print(page)
    return exit_status() if summary["interrupted"] else 0
