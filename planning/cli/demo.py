"""`worldmodel demo`: move objects to where one goal image shows them, with the embedded model."""

from __future__ import annotations

from planning.cli.eval import print_pace, print_table, status_of
from planning.options import DemoOptions

Options = DemoOptions


def run(options: DemoOptions) -> int:
    """Run episodes of two tasks, write the report, and print its path last."""
    from planning.apps.demonstrate import demonstrate

    print(
        f"{options.episodes} pick-and-place episodes in MuJoCo, in two tasks. The planner sees the "
        "camera and one goal image, in which the arm is back at its start. It imagines hundreds of "
        "skills for every decision.",
        flush=True,
    )
    summary, page = demonstrate(options)
    print_table(summary)
    print_pace(summary)
    print(f"report: {page.resolve()}")
    return status_of(summary)
