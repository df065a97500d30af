"""Steps and table of `benchmarks/gpu_ablations.sh`.

python benchmarks/gpu_ablations.py steps OUT SECONDS   # optimiser steps of each phase in SECONDS
python benchmarks/gpu_ablations.py table OUT           # one row per arm; also OUT/ablations.json
python benchmarks/gpu_ablations.py page OUT            # keeps the rows for docs/imagination.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table

from worldmodel.atomic_io import write_json

HEAD = ("arm", "parameters", "steps", "pushed, 8 steps", "lifted, 14 steps")
ROLLOUTS = (("pushed", "8"), ("lifted", "14"))
MAX_STEPS = 6000
HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "ablations.json", HERE.parent / "docs" / "imagination.md"
ARMS = {
    "base": "the recipe",
    "short": "rollouts of 2 steps alone",
    "no_head": "no object head and no label",
    "state": "the next robot state predicted beside the frame",
    "fresh": "the recipe, with a new predictor",
    "adaln": "adaptive layer norm, with a new predictor",
    "scratch": "the recipe, with a new encoder and a new predictor",
    "tokens": "4 x 4 tokens, with a new encoder and a new predictor",
}
"""What an arm changes, in the order of the page; the last four have parts of their own to learn."""


def read(file: Path) -> Any:
    """Return a JSON file's content; None if it is missing or torn."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def steps_per_second(folder: Path) -> float:
    """Return the pace of a training run at its last logged steps, without the start."""
    config = read(folder / "summary.json") or {}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    paces = [row["samples_per_s"] for row in rows if "samples_per_s" in row]
    return float(paces[-1]) / float(config["options"]["loop"]["batch_size"])


def steps(out: Path, seconds: float) -> None:
    """Print how many steps of phase 1 and of phase 2 fit into a number of seconds."""
    counts = []
    for phase in ("first", "model"):
        paces = [steps_per_second(folder) for folder in sorted(out.glob(f"pace_{phase}_[0-9]"))]
        counts.append(min(MAX_STEPS, max(2, int(seconds * min(paces)))))
    print(*counts)


def row(out: Path, arm: str) -> dict[str, Any]:
    """Return what is known of an arm."""
    summary = read(out / f"model_{arm}" / "summary.json") or {}
    rollouts = (read(out / f"rollouts_{arm}" / "summary.json") or {}).get("rollouts") or {}
    found: dict[str, Any] = {"arm": arm, "parameters": summary.get("parameters")}
    first = read(out / f"first_{arm}" / "summary.json") or {}
    loops = [x.get("options", {}).get("loop", {}) for x in (first, summary)]
    found["steps"] = [loop.get("steps") for loop in loops]
    for kind, step in ROLLOUTS:
        cell = rollouts.get(kind, {}).get(step)
        found[f"{kind}_{step}_cm"] = cell and cell["imagined_cm"]
    for folder in sorted(out.glob(f"eval_{arm}_*")):
        result = read(folder / "summary.json")
        if result:
            name = folder.name.removeprefix(f"eval_{arm}_")
            pace = result.get("seconds_per_decision") or {}
            found[name] = [result["successes"], result["episodes"], pace.get("median")]
    return found


def markdown(rows: list[dict[str, Any]], names: dict[str, str]) -> str:
    """Return the table of arms; `names` describe them on a page, which shows no times."""
    tasks = sorted({n for found in rows for n in found if isinstance(found[n], list)} - {"steps"})
    lines = []
    for found in rows:
        counts = "/".join("-" if n is None else str(n) for n in found["steps"])
        size = found["parameters"]
        line = [
            names.get(found["arm"], found["arm"]),
            "-" if size is None else f"{size / 1e6:.2f} M",
            counts,
        ]
        for kind, step in ROLLOUTS:
            error = found[f"{kind}_{step}_cm"]
            line.append("-" if error is None else f"{error:.1f} cm")
        for task in tasks:
            made = found.get(task)
            pace = "" if names or not made or made[2] is None else f", {made[2]:.2f} s"
            line.append(f"{made[0]}/{made[1]}{pace}" if made else "-")
        lines.append(line)
    return markdown_table([*HEAD, *tasks], lines)


def table(out: Path) -> None:
    """Print and write one row per arm."""
    arms = sorted(f.name.removeprefix("first_") for f in out.glob("first_*") if f.is_dir())
    rows = [row(out, arm) for arm in arms]
    write_json(out / "ablations.json", {"rows": rows})
    print(markdown(rows, {}))


def page(out: Path) -> None:
    """Keep the rows of a run, and write them into the page."""
    rows = read(out / "ablations.json")["rows"]
    rows = [found for arm in ARMS for found in rows if found["arm"] == arm]
    write_json(RESULTS, {"rows": rows})
    fill_blocks(PAGE, {"ablations": markdown(rows, ARMS)})
    print(PAGE)


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    if command == "steps":
        steps(Path(folder), float(rest[0]))
    else:
        {"table": table, "page": page}[command](Path(folder))
