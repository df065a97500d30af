"""`worldmodel plan`: plan actions from two images on disk."""

from __future__ import annotations

from planning.atomic_write import json_text
from planning.options import PlanOptions

Options = PlanOptions


def run(options: PlanOptions) -> int:
    """Plan once, then print and write the actions and their energies."""
    from planning.apps.plan import make_plan

    print(json_text(make_plan(options), indent=2))
    return 0
