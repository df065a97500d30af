"""Planning beside the published loop, and success against budget.

    python benchmarks/planning.py          # speeds -> results/planning.json, docs/planning.png
    python benchmarks/planning.py equal    # of those only the row at equal energy, for new weights
    python benchmarks/planning.py budgets  # success by budget -> results/budgets.json; rows by name
    python benchmarks/planning.py paces    # seconds an action of each budget, on a quiet machine

All then write docs/planning.md. A row that is in the results is not run again.
"""

from __future__ import annotations

import hashlib
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
EPISODES, TUNING = 24, 50
"""Episodes a row, and the evaluation seed whose episodes (500,000 seeds on) are for tuning only."""
CEM_150 = {"optimiser": "cem", "samples": 150, "iterations": 4, "elites": 12}
SETTINGS: dict[str, dict[str, Any]] = {
    "cem 150 x 4 (default)": CEM_150,
    "cem 100 x 3": {"optimiser": "cem", "samples": 100, "iterations": 3, "elites": 10},
    "cem 64 x 3": {"optimiser": "cem", "samples": 64, "iterations": 3, "elites": 8},
    "cem 32 x 2": {"optimiser": "cem", "samples": 32, "iterations": 2, "elites": 6},
    "icem 64 x 3": {"optimiser": "icem", "samples": 64, "iterations": 3, "elites": 8},
    "icem 32 x 3": {"optimiser": "icem", "samples": 32, "iterations": 3, "elites": 6},
    "cem 150 x 4, stop at 4 mm": CEM_150 | {"min_spread_m": 0.004},
    "cem 64 x 3, warm start": {
        "optimiser": "cem",
        "samples": 64,
        "iterations": 3,
        "elites": 8,
        "warm_start": True,
    },
    "cem 150 x 4, horizon 2": CEM_150 | {"horizon": 2, "over": "sum"},
    "cem 300 x 6": {"optimiser": "cem", "samples": 300, "iterations": 6, "elites": 12},
}

INTRO = """# Planning

A plan is a search over actions: each candidate is imagined by the predictor, and the one whose
end is nearest to the goal image's tokens wins. One `minimise(cost, bounds, generator)`, one file
each (`optimiser=` of `worldmodel eval` and `worldmodel plan`):

| name | what it is | the plan it returns |
|---|---|---|
| cem | as published; on CUDA it stays on the device (`device_cem.py`) | mean of the elites |
| icem | coloured noise, kept elites, a shrinking population | best sample |
| mppi | every sample weighted by how little it costs | best sample |
| gradient | Adam through the predictor, from several starts, inside the bounds | best point |
| nevergrad | CMA and others (`pip install 'worldmodel[nevergrad]'`) | best sample |

Every sample obeys the action box, the workspace and the gripper rule; an energy that is not a
number is an error that names the imagined step; the same seed gives the same plan.

What the agent adds: a goal out of one step's reach is planned as up to three equal steps; the
first step goes sideways at full speed and down only inside a cone over the goal (straight
descents knocked the object over in one grasp of five); the gripper is planned when the move left
is short, or when it promises more than moving.

Options, all off by default: `min_spread_m` (stop when the elites agree to the arm's precision),
`deadline_s` (the best so far, with how far it got), `warm_start` (begin where the last plan would
go on), `history=2` (look back on the frame before), `norm=l2`, `over=sum`, `horizon`, `memory_gb`
(plans imagined at once).

## How the imagination is fast and exact

A frame's tokens see themselves and earlier frames only, so keys and values of the past are kept and
a new frame needs no mask. Frames before the present one are the same for all samples: their keys
and values exist once. At the first imagined step samples differ in one token, the action's: all
others are embedded, projected and rotated once for the first layer. The last layer computes outputs
for the frame's tokens alone, and the last step keeps no cache. Float32 products go to oneDNN where
MKL is slow (processors that are not Intel's).
"""


SIZES = {"small": (1, 2, 4, 8), "medium": (1, 2, 4, 8), "ac-vitl": (1, 2), "ac": (1, 2, 4)}
"""Horizons of each size; larger ones of the published shape take a quarter of an hour each."""


def speeds() -> None:
    """Measure the rows that are missing; each is kept as soon as it is there."""
    summary: dict[str, Any] = {"rows": []}
    if SPEEDS.is_file():
        summary = json.loads(SPEEDS.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory() as folder:  # peaks and equal energy
            bench_planning.run(bench_planning.Options(sizes=[], out=folder))
            summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    for size, horizons in SIZES.items():
        few = {"iterations": 1, "repeats": 1} if size.startswith("ac") else {"repeats": 2}
        for horizon in horizons:
            if any((r["size"], r["horizon"]) == (size, horizon) for r in summary["rows"]):
                continue
            row = bench_planning.measure(size, horizon, bench_planning.Options(**few))
            summary["rows"].append(row)
            print(size, horizon, f"{row['ratio_exact']:.2f}x, bf16 {row['ratio_bf16']:.2f}x")
            SPEEDS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    summary["rows"].sort(key=lambda r: (list(SIZES).index(r["size"]), r["horizon"]))
    SPEEDS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    bench_planning.plot(summary["rows"], PAGE.parent / "planning.png")


def equal() -> None:
    """Measure the row at equal energy again: it depends on the embedded model."""
    summary = json.loads(SPEEDS.read_text(encoding="utf-8"))
    summary["equal_energy"] = bench_planning.equal_energy(bench_planning.Options())
    SPEEDS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def _rows() -> dict[str, Any]:
    return json.loads(BUDGETS.read_text(encoding="utf-8")) if BUDGETS.is_file() else {}


def _weights() -> str:
    """Which embedded model: rows of another are run again."""
    file = HERE.parent / "worldmodel" / "weights" / "default.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _keep(rows: dict[str, Any]) -> None:
    BUDGETS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _run(name: str, episodes: int) -> dict[str, Any]:
    options = evaluation.Options(
        task="pick_place",
        episodes=episodes,
        seed=TUNING,
        workers=1,
        pictures=False,
        **SETTINGS[name],
    )
    return evaluation.summarise(options, evaluation.run_episodes(options, "planner"), {})


def budgets() -> None:
    """Pick-and-place on the same tuning episodes with other searches: the rows named, or all."""
    asked = [name for name in SETTINGS if name in sys.argv] or list(SETTINGS)
    for name in asked:
        rows = _rows()
        if rows.get(name, {}).get("weights") != _weights():
            found = _run(name, EPISODES)
            wanted = ("successes", "episodes", "ci95", "failures")
            row = SETTINGS[name] | {"weights": _weights()} | {key: found[key] for key in wanted}
            _keep(rows | {name: row})


def paces() -> None:
    """Seconds an action takes in the first two of those episodes."""
    for name in _rows():
        rows = _rows()
        if rows[name]["weights"] == _weights():
            rows[name]["seconds_per_action"] = _run(name, 2)["seconds_per_action"]
            rows[name]["threads"] = torch.get_num_threads()
            _keep(rows)


def _speed_row(r: dict[str, Any], peaks: dict[str, float]) -> str:
    alone = f"{r['ratio_same_products']:.2f}x" if "ratio_same_products" in r else "-"
    shares = (r[f"flops_{n}"] / peaks[d] for n, d in (("exact", "float32"), ("bf16", "bfloat16")))
    return (
        f"| {r['size']} | {r['horizon']} | {r['samples']} x {r['iterations']} | "
        f"{r['baseline_s']:.2f} s | {r['ratio_exact']:.2f}x | {alone} | {r['ratio_bf16']:.2f}x | "
        f"{r['max_abs_diff']:.0e} | {' / '.join(f'{share:.0%}' for share in shares)} |"
    )


def write_page() -> None:
    """Write docs/planning.md from what is measured."""
    text = [INTRO]
    if SPEEDS.is_file():
        found = json.loads(SPEEDS.read_text(encoding="utf-8"))
        peaks = found["matmul_flops"]
        text += [
            "## Beside the published loop\n",
            f"A row is one run, {found['device']}, {found['threads']} thread; the baseline "
            "recomputes the whole history for each\nimagined step in float32, with a mask made "
            "anew and poses through NumPy, and torch's own matrix products\n(`worldmodel bench "
            "planning`). `ac` is the published 305 M predictor's shape for ViT-g, `ac-vitl` for "
            "ViT-L. Caching alone: against the\nsame loop on the matrix products that ours uses.\n",
            "| size | horizon | samples x iterations | baseline | exact, cached | caching alone | "
            "bf16, cached | largest difference | float32 / bf16, of the matrix-product peak |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        text += [_speed_row(row, peaks) for row in found["rows"]]
        same = found["equal_energy"]
        if "ratio" in same:
            text.append(
                f"\nAt equal energy ({same['baseline_energy']:.4f}, mean of six pairs of pictures, "
                f"embedded model): CEM 800 x 10 by the published\nloop {same['baseline_s']:.2f} s; "
                f"iCEM {same['icem_samples']} x {same['icem_iterations']}, cached, "
                f"{same['icem_s']:.3f} s: {same['ratio']:.1f}x.\n"
            )
        text.append(
            f"Peaks, measured: {peaks['float32'] / 1e9:.0f} GFLOP/s in float32, "
            f"{peaks['bfloat16'] / 1e9:.0f} in bfloat16. Only the predictor's linear layers are\n"
            "counted as work; shares above 100 %: the peak is of MKL's `a @ b`, ours is oneDNN.\n\n"
            "![Ratios](planning.png)\n"
        )
    rows = _rows()
    if rows:
        text += [
            "## Success against budget\n",
            f"The embedded model, pick-and-place from goal images, the same {EPISODES} episodes in "
            "every row; their seeds are\nfor tuning and none is an evaluation's "
            "(`python benchmarks/planning.py budgets`, then `paces` for the\ntimes: encoding and "
            "planning, all cores of a quiet machine).\n",
            "Successes were counted in the physics before commit 8d37e29 (contacts of objects "
            "drawn larger than the middle size flickered).\n",
            "Rows of other weights (their file's SHA-256 begins so) do not compare.\n",
            "| search | horizon | success | 95 % interval | s/action, median / 95th | cores | "
            "weights |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, r in rows.items():
            low, high = r["ci95"]
            pace = r.get("seconds_per_action")
            took = f"{pace['median']:.3f} / {pace['p95']:.3f}" if pace else "not measured"
            text.append(
                f"| {name} | {r.get('horizon', 1)} | {r['successes']}/{r['episodes']} | "
                f"{low:.0%} to {high:.0%} | {took} | {r.get('threads', '-')} | `{r['weights']}` |"
            )
    PAGE.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "budgets" in sys.argv:
        torch.set_num_threads(1)
        budgets()
    elif "paces" in sys.argv:
        paces()
    elif "equal" in sys.argv:
        torch.set_num_threads(1)
        equal()
    else:
        torch.set_num_threads(1)
        speeds()
    write_page()
    print(PAGE)
