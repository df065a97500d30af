"""Measure planning speed against the published loop, and success by search budget.

    python benchmarks/planning_speed.py          # speeds: results/planning.json, docs/planning.png
    python benchmarks/planning_speed.py equal    # only the row at equal energy, for new weights
    python benchmarks/planning_speed.py budgets  # successes: results/budgets.json; rows by name
    python benchmarks/planning_speed.py paces    # seconds per action of each budget, idle machine
    python benchmarks/planning_speed.py page     # only the page

All of them update docs/planning.md. Rows with stored results are not run again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from page_blocks import fill_blocks, markdown_table, wrap

from planning.apps import bench_planning, evaluate
from planning.apps.bench_equal_energy import equal_energy
from planning.bench_options import BenchOptions
from planning.cli.bench_planning import run as run_benchmark
from planning.options import EvalOptions, SceneOptions
from planning.planner_options import PlannerOptions

HERE = Path(__file__).resolve().parent
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

SIZES = {"small": (1, 2, 4, 8), "medium": (1, 2, 4, 8), "ac-vitl": (1, 2), "ac": (1, 2, 4)}
"""Horizons of each size; larger ones of the published shape take 15 minutes each."""


def speeds() -> None:
    """Measure the missing rows, storing each as soon as it is measured."""
    summary: dict[str, Any] = {"rows": []}
    if SPEEDS.is_file():
        summary = json.loads(SPEEDS.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory() as folder:  # peaks and equal energy
            run_benchmark(BenchOptions(sizes=[], out=folder))
            summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    for size, horizons in SIZES.items():
        few = {"iterations": 1, "repeats": 1} if size.startswith("ac") else {"repeats": 2}
        for horizon in horizons:
            if any((r["size"], r["horizon"]) == (size, horizon) for r in summary["rows"]):
                continue
            row = dataclasses.asdict(bench_planning.measure(size, horizon, BenchOptions(**few)))
            summary["rows"].append(row)
            print(size, horizon, f"{row['ratio_exact']:.2f}x, bf16 {row['ratio_bf16']:.2f}x")
            SPEEDS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    summary["rows"].sort(key=lambda r: (list(SIZES).index(r["size"]), r["horizon"]))
    SPEEDS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    bars = [
        (f"{row['size']}\nH={row['horizon']}", row["ratio_exact"], row["ratio_bf16"])
        for row in summary["rows"]
    ]
    bench_planning.plot(bars, PAGE.parent / "planning.png")


def equal() -> None:
    """Remeasure the row at equal energy, which depends on the embedded model."""
    summary = json.loads(SPEEDS.read_text(encoding="utf-8"))
    summary["equal_energy"] = dataclasses.asdict(equal_energy(BenchOptions()))
    SPEEDS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def _rows() -> dict[str, Any]:
    return json.loads(BUDGETS.read_text(encoding="utf-8")) if BUDGETS.is_file() else {}


def _weights() -> str:
    """Return the hash of the embedded model; rows of another model are run again."""
    file = HERE.parent / "worldmodel" / "weights" / "default.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _keep(rows: dict[str, Any]) -> None:
    BUDGETS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _run(name: str, episodes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        options = EvalOptions(
            scene=SceneOptions(task="pick_place"),
            planner=PlannerOptions(**SETTINGS[name]),
            episodes=episodes,
            seed=TUNING,
            workers=1,
            pictures=False,
            baselines=False,
            out=folder,
        )
        return evaluate.evaluate(options)[0]


def budgets() -> None:
    """Run pick-and-place on the same tuning episodes with the named searches, or all."""
    asked = [name for name in SETTINGS if name in sys.argv] or list(SETTINGS)
    for name in asked:
        rows = _rows()
        if rows.get(name, {}).get("weights") != _weights():
            found = _run(name, EPISODES)
            wanted = ("successes", "episodes", "ci95", "failures")
            row = SETTINGS[name] | {"weights": _weights()} | {key: found[key] for key in wanted}
            _keep(rows | {name: row})


def paces() -> None:
    """Measure seconds per action in the first two of those episodes."""
    for name in _rows():
        rows = _rows()
        if rows[name]["weights"] == _weights():
            rows[name]["seconds_per_action"] = _run(name, 2)["seconds_per_action"]
            rows[name]["threads"] = torch.get_num_threads()
            _keep(rows)


def _speed_cells(r: dict[str, Any], peaks: dict[str, float]) -> list[object]:
    alone = f"{r['ratio_same_products']:.2f}x" if r.get("ratio_same_products") else "-"
    shares = (r[f"flops_{n}"] / peaks[d] for n, d in (("exact", "float32"), ("bf16", "bfloat16")))
    return [
        r["size"],
        r["horizon"],
        f"{r['samples']} x {r['iterations']}",
        f"{r['baseline_s']:.2f} s",
        f"{r['ratio_exact']:.2f}x",
        alone,
        f"{r['ratio_bf16']:.2f}x",
        f"{r['max_abs_diff']:.0e}",
        " / ".join(f"{share:.0%}" for share in shares),
    ]


def speed_text(found: dict[str, Any]) -> str:
    """Describe the speeds: table, equal energy, measured peaks."""
    peaks, same = found["matmul_flops"], found["equal_energy"]
    head = ["size", "horizon", "samples x iterations", "baseline", "exact, cached"]
    head += ["caching alone", "bf16, cached", "largest difference"]
    head.append("float32 / bf16, of the matrix-product peak")
    text = [
        f"Device: {found['device']}, {found['threads']} thread.",
        markdown_table(head, [_speed_cells(row, peaks) for row in found["rows"]]),
        f"Peaks, measured: {peaks['float32'] / 1e9:.0f} GFLOP/s in float32, "
        f"{peaks['bfloat16'] / 1e9:.0f} in bfloat16.",
    ]
    if "ratio" in same:
        equal = (
            f"At equal energy ({same['baseline_energy']:.4f}, mean of six pairs of pictures, "
            f"embedded model): CEM 800 x 10 by the published loop takes {same['baseline_s']:.2f} s "
            f"and iCEM {same['icem_samples']} x {same['icem_iterations']}, cached, "
            f"{same['icem_s']:.3f} s: {same['ratio']:.1f}x."
        )
        text.append(wrap(equal))
    return "\n\n".join(text)


def budget_table(rows: dict[str, Any]) -> str:
    """Format successes and times of each budget."""
    cells = []
    for name, r in rows.items():
        low, high = r["ci95"]
        pace = r.get("seconds_per_action")
        took = f"{pace['median']:.3f} / {pace['p95']:.3f}" if pace else "not measured"
        success = f"{r['successes']}/{r['episodes']}"
        interval = f"{low:.0%} to {high:.0%}"
        cores, weights = r.get("threads", "-"), f"`{r['weights']}`"
        cells.append([name, r.get("horizon", 1), success, interval, took, cores, weights])
    head = ["search", "horizon", "success", "95 % interval", "s/action, median / 95th"]
    return markdown_table([*head, "cores", "weights"], cells)


def write_page() -> None:
    """Fill the blocks of docs/planning.md from the stored results."""
    speeds_found = json.loads(SPEEDS.read_text(encoding="utf-8"))
    fill_blocks(PAGE, {"speeds": speed_text(speeds_found), "budgets": budget_table(_rows())})


if __name__ == "__main__":
    if "budgets" in sys.argv:
        torch.set_num_threads(1)
        budgets()
    elif "paces" in sys.argv:
        paces()
    elif "equal" in sys.argv:
        torch.set_num_threads(1)
        equal()
    elif "page" not in sys.argv:
        torch.set_num_threads(1)
        speeds()
    write_page()
    print(PAGE)
