"""Planning beside the published loop, and success against budget.

    python benchmarks/planning.py          # speeds -> results/planning.json, docs/planning.png
    python benchmarks/planning.py budgets  # success by budget -> results/budgets.json

Both then write docs/planning.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# run as a script, this file's own name would hide the package
sys.path[:] = [p for p in sys.path if not p or Path(p).resolve() != HERE]

import torch  # noqa: E402

from planning.cli import bench_planning  # noqa: E402
from planning.cli import eval as evaluation  # noqa: E402

SPEEDS, BUDGETS = HERE / "results" / "planning.json", HERE / "results" / "budgets.json"
PAGE = HERE.parent / "docs" / "planning.md"
SETTINGS = [("cem", 150, 4, 12), ("cem", 64, 3, 8), ("icem", 64, 3, 8), ("icem", 32, 3, 6)]

INTRO = """# Planning

A plan is a search over actions: each candidate is imagined by the predictor, and the one whose
end is nearest to the goal image's tokens wins. `planning/` has the cross-entropy method as
published (CEM), iCEM and MPPI, all with one `minimise`; every sample obeys the action box, the
workspace and the gripper rule, an energy that is not a number is an error, and a deadline returns
the best so far.

What the agent adds: a goal out of one step's reach is planned as up to three equal steps; the
first step goes sideways at full speed and down only inside a cone over the goal (straight
descents knocked the object over in one grasp of five); the gripper is planned when the move left
is short, or when it promises more than moving.
"""


def speeds() -> None:
    """Measure and keep the rows of all sizes."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        bench_planning.run(bench_planning.Options(sizes=["small", "medium"], repeats=2, out=folder))
        summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    rows = summary["rows"]
    options = bench_planning.Options(iterations=1, repeats=1)
    rows += [bench_planning.measure("ac", horizon, options) for horizon in (1, 2)]
    SPEEDS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    bench_planning.plot(rows, PAGE.parent / "planning.png")


def budgets() -> None:
    """Pick-and-place on the same 40 episodes with smaller and smaller searches."""
    rows = json.loads(BUDGETS.read_text(encoding="utf-8")) if BUDGETS.is_file() else []
    done = {(r["optimiser"], r["samples"], r["iterations"]) for r in rows}
    for name, samples, iterations, elites in SETTINGS:
        if (name, samples, iterations) in done:
            continue
        options = evaluation.Options(
            task="pick_place", episodes=40, optimiser=name, samples=samples, iterations=iterations,
            elites=elites, pictures=False,
        )  # fmt: skip
        found = evaluation.summarise(options, evaluation.run_episodes(options, "planner"), {})
        rows.append(found["planner"] | {k: found[k] for k in (
            "successes", "episodes", "ci95", "seconds_per_action")})  # fmt: skip
        BUDGETS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def write_page() -> None:
    """Write docs/planning.md from what is measured."""
    text = [INTRO]
    if SPEEDS.is_file():
        found = json.loads(SPEEDS.read_text(encoding="utf-8"))
        text += [
            "## Beside the published loop\n",
            f"One run, {found['device']}, {found['threads']} thread; the baseline recomputes the "
            "whole history for each\nimagined step in float32, with a mask made anew and poses "
            "through NumPy (`worldmodel bench planning`). `ac` is the\npublished 305 M predictor's "
            "shape.\n",
            "| size | horizon | samples x iterations | baseline | exact, cached | bf16, cached | "
            "largest difference |",
            "|---|---|---|---|---|---|---|",
        ]
        text += [
            f"| {r['size']} | {r['horizon']} | {r['samples']} x {r['iterations']} | "
            f"{r['baseline_s']:.2f} s | {r['ratio_exact']:.2f}x | {r['ratio_bf16']:.2f}x | "
            f"{r['max_abs_diff']:.0e} |"
            for r in found["rows"]
        ]
        same = found["equal_energy"]
        if "ratio" in same:
            text.append(
                f"\nAt equal energy ({same['baseline_energy']:.4f}, mean of six pairs of pictures, "
                f"embedded model): CEM 800 x 10 by the published\nloop {same['baseline_s']:.2f} s; "
                f"iCEM {same['icem_samples']} x {same['icem_iterations']}, cached, "
                f"{same['icem_s']:.3f} s: {same['ratio']:.1f}x.\n"
            )
        text.append("![Ratios](planning.png)\n")
    if BUDGETS.is_file():
        text += [
            "## Success against budget\n",
            "Pick-and-place, the same 40 episodes (`python benchmarks/planning.py budgets`).\n",
            "| search | samples x iterations | success | s/action, median |",
            "|---|---|---|---|",
        ]
        text += [
            f"| {r['optimiser']} | {r['samples']} x {r['iterations']} | {r['successes']}/"
            f"{r['episodes']} | {r['seconds_per_action']['median']:.3f} |"
            for r in json.loads(BUDGETS.read_text(encoding="utf-8"))
        ]
    PAGE.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    budgets() if "budgets" in sys.argv else speeds()
    write_page()
    print(PAGE)
