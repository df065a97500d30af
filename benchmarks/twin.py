"""The same episodes in plain MuJoCo and through libfranka's protocol, with the embedded model.

python benchmarks/twin.py [--reach 20] [--pick-place 10] [--others 20]
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

from planning.apps.workcell import read_limits  # noqa: E402
from planning.cli import eval as evaluation  # noqa: E402
from planning.cli.app import main as worldmodel  # noqa: E402

OUT, PAGE = HERE / "results" / "twin.json", HERE.parent / "docs" / "robot-twin.md"
OTHERS = 2
"""Seed of pick-and-place episodes beyond those of `worldmodel eval` with its usual seed."""


def brief(episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What became of each episode."""
    return [{name: e[name] for name in ("seed", "success", "error_m", "reason")} for e in episodes]


def plain(task: str, episodes: int, seed: int) -> dict[str, Any]:
    """`worldmodel eval` without baselines."""
    options = evaluation.Options(task=task, episodes=episodes, seed=seed, baselines=False)
    found = evaluation.run_episodes(options, "planner")
    each = {"each": brief([episode.summary() for episode in found])}
    return evaluation.summarise(options, found, {}) | each


def protocol(task: str, episodes: int, seed: int) -> dict[str, Any]:
    """`worldmodel drive robot=twin`, and what `worldmodel data index` says of its recordings."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "drive",
            "robot=twin",
            f"task={task}",
            f"episodes={episodes}",
            f"seed={seed}",
            "execute=true",
            "confirm=false",
            f"out={folder}",
        ]
        if worldmodel(words):
            raise SystemExit(f"worldmodel {' '.join(words)} failed")
        summary: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text("utf-8"))
        lines = (Path(folder) / "episodes.jsonl").read_text("utf-8").splitlines()
        index = ["data", "index", f"root={folder}/data", f"out={folder}/index"]
        worldmodel(index)
        accepted = json.loads((Path(folder) / "index" / "summary.json").read_text("utf-8"))
        each = {"each": brief([json.loads(line) for line in lines])}
        return summary | {"recordings_accepted": accepted["accepted"]} | each


def main() -> None:
    """Run both, write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reach", type=int, default=20)
    parser.add_argument("--pick-place", type=int, default=10)
    parser.add_argument("--others", type=int, default=20, help="pick-and-place with other seeds")
    options = parser.parse_args()
    rows = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    wanted = (
        ("reach", "reach", options.reach, 0),
        ("pick_place", "pick_place", options.pick_place, 0),
        ("pick_place, other seeds", "pick_place", options.others, OTHERS),
    )
    for name, task, episodes, seed in wanted:
        if episodes and name not in rows:
            both = {"protocol": protocol(task, episodes, seed)}
            rows[name] = both | {"plain": plain(task, episodes, seed)}
            OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    write_page(rows)
    print(OUT, PAGE, sep="\n")


def unlike(row: dict[str, Any]) -> list[str]:
    """Lines on the episodes that did not succeed in both."""
    lines = []
    for far, near in zip(row["protocol"]["each"], row["plain"]["each"], strict=True):
        if not (far["success"] and near["success"]):
            said = [e["reason"].split(" (127")[0] or "success" for e in (near, far)]
            lines.append(f"| {far['seed']} | {said[0]} | {said[1]} |")
    return lines


def write_page(rows: dict[str, Any]) -> None:
    """Write docs/robot-twin.md."""
    usual = read_limits("twin")
    lines = [
        "# The same episodes, plain and through libfranka's protocol\n",
        "Written by `python benchmarks/twin.py`; the same seeds, starts and goal pictures. The "
        "driver, watchdog and safety layer\nare those of a real arm; what answers is simulated.\n",
        "| task | plain MuJoCo | over the protocol | ended by a reflex | steps that contact ended "
        "| median error | cycle, median | recordings that the index accepts |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, row in rows.items():
        far, near = row["protocol"], row["plain"]
        reflexes = sum("reflex" in e["reason"] for e in far["each"])
        touched = far["reasons"].get("contact", 0)
        lines.append(
            f"| {task} | {near['successes']}/{near['episodes']} | {far['successes']}/"
            f"{far['episodes']} | {reflexes} | {touched} | "
            f"{100 * far['final_error_m']['median']:.1f} cm | "
            f"{far['cycle_s']['median']:.2f} s | {far['recordings_accepted']}/{far['episodes']} |"
        )
    lines += ["\nWhere the cycle's time goes (median seconds):\n"]
    names = list(next(iter(rows.values()))["protocol"]["cycle_parts_s"])
    lines += ["| task | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for task, row in rows.items():
        parts = row["protocol"]["cycle_parts_s"]
        lines.append(f"| {task} | " + " | ".join(f"{parts[n]['median']:.3f}" for n in names) + " |")
    lines += ["\nEpisodes that failed in one or in both:\n"]
    lines += ["| seed | plain MuJoCo | over the protocol |", "|---|---|---|"]
    lines += [line for row in rows.values() for line in unlike(row)]
    lines.append(
        "\nOver the protocol no two runs are the same to the last digit: driver and arm are "
        "processes with clocks of their own.\n\n"
        "Speed, forces and thresholds are those of `configs/robot/franka.yaml`: at most "
        f"{usual.max_speed_m_s} m/s, {usual.slow_m_s} m/s on the\nway down in the last "
        f"{100 * usual.slow_zone_m:.0f} cm above the table, a motion ends at {usual.contact_n:.0f} "
        f"N,\na collision reflex comes at {usual.max_force_n:.0f} N or {usual.max_torque_nm:.0f} "
        "Nm.\n"
    )
    PAGE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
