"""The same episodes in plain MuJoCo and through libfranka's protocol, with the embedded model.

python benchmarks/twin.py [--reach 20] [--pick-place 10]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if not p or Path(p).resolve() != HERE]

from planning.cli import eval as evaluation  # noqa: E402
from planning.cli.app import main as worldmodel  # noqa: E402

OUT, PAGE = HERE / "results" / "twin.json", HERE.parent / "docs" / "robot-twin.md"


def plain(task: str, episodes: int) -> dict[str, Any]:
    """`worldmodel eval` without baselines."""
    options = evaluation.Options(task=task, episodes=episodes, baselines=False)
    found = evaluation.run_episodes(options, "planner")
    return evaluation.summarise(options, found, {})


def protocol(task: str, episodes: int) -> dict[str, Any]:
    """`worldmodel drive robot=twin`."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["drive", "robot=twin", f"task={task}", f"episodes={episodes}", "execute=true",
                 "confirm=false", f"out={folder}"]  # fmt: skip
        if worldmodel(words):
            raise SystemExit(f"worldmodel {' '.join(words)} failed")
        summary: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text("utf-8"))
        index = ["data", "index", f"root={folder}/data", f"out={folder}/index"]
        worldmodel(index)
        accepted = json.loads((Path(folder) / "index" / "summary.json").read_text("utf-8"))
        return summary | {"recordings_accepted": accepted["accepted"]}


def main() -> None:
    """Run both, write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reach", type=int, default=20)
    parser.add_argument("--pick-place", type=int, default=10)
    options = parser.parse_args()
    rows = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    for task, episodes in (("reach", options.reach), ("pick_place", options.pick_place)):
        if task not in rows:
            rows[task] = {"protocol": protocol(task, episodes), "plain": plain(task, episodes)}
            OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    write_page(rows)
    print(OUT, PAGE, sep="\n")


def write_page(rows: dict[str, Any]) -> None:
    """Write docs/robot-twin.md."""
    lines = [
        "# The same episodes, plain and through libfranka's protocol\n",
        "Written by `python benchmarks/twin.py`; the same seeds, starts and goal pictures. The "
        "driver, watchdog and safety layer\nare those of a real arm; what answers is simulated.\n",
        "| task | plain MuJoCo | over the protocol | median error | cycle, median | recordings "
        "that the index accepts |",
        "|---|---|---|---|---|---|",
    ]
    for task, row in rows.items():
        far, near = row["protocol"], row["plain"]
        lines.append(
            f"| {task} | {near['successes']}/{near['episodes']} | {far['successes']}/"
            f"{far['episodes']} | {100 * far['final_error_m']['median']:.1f} cm | "
            f"{far['cycle_s']['median']:.2f} s | {far['recordings_accepted']}/{far['episodes']} |"
        )
    lines += ["\nWhere the cycle's time goes (median seconds):\n"]
    names = list(next(iter(rows.values()))["protocol"]["cycle_parts_s"])
    lines += ["| task | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for task, row in rows.items():
        parts = row["protocol"]["cycle_parts_s"]
        lines.append(f"| {task} | " + " | ".join(f"{parts[n]['median']:.3f}" for n in names) + " |")
    lines.append("\nFailures over the protocol: " + "; ".join(
        f"{task}: {json.dumps(row['protocol']['failures'])}" for task, row in rows.items()
    ) + ".\n")  # fmt: skip
    PAGE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
