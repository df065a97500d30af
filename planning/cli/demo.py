"""`worldmodel demo`: pick and place with the embedded model, from goal images alone."""

from __future__ import annotations

from planning.cli.eval import print_table
from planning.options import DemoOptions
from worldmodel.shutdown import exit_status

Options = DemoOptions


def run(options: DemoOptions) -> int:
    """Run pick-and-place episodes, write the report, and print its path last."""
    from planning.apps.demonstrate import demonstrate

    plans = options.planner.samples * options.planner.iterations
    print(
        f"{options.episodes} pick-and-place episodes in MuJoCo. The planner sees the camera and "
        f"four goal images. It imagines {plans} futures for every action.",
        flush=True,
    )
    summary, page = demonstrate(options)
    print_table(summary)
    print(f"report: {page.resolve()}")
    return exit_status() if summary["interrupted"] else 0
