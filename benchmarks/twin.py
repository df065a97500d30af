"""Compare episodes in plain MuJoCo and through libfranka's protocol, with the embedded model.

python benchmarks/twin.py [--only NAME ...]

Finished rows in results/twin.json are kept and not run again. Rows whose name ends with "one image"
plan skills toward a single goal image, in which the arm is back at its start.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table

from planning.apps.eval_summary import summarise
from planning.apps.evaluate import run_agents
from planning.apps.workcell import read_limits
from planning.cli.app import main as worldmodel
from planning.options import EvalOptions, SceneOptions, SubGoals
from worldmodel.checkpoints.loading import load_world_model

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "twin.json", HERE.parent / "docs" / "robot-twin.md"


@dataclass(frozen=True)
class Row:
    """Episodes of one task, run in both ways."""

    name: str
    task: str
    episodes: int
    seed: int = 0
    sub_goals: SubGoals = "default"


ROWS = (
    Row("reach", "reach", 20),
    Row("pick_place", "pick_place", 10),
    Row("pick_place, other seeds", "pick_place", 20, seed=2),
    Row("pick_place, one image", "pick_place", 10, seed=3, sub_goals="one"),
    Row("push, one image", "push", 10, seed=3, sub_goals="one"),
    Row("push_pose, one image", "push_pose", 10, seed=3, sub_goals="one"),
    Row("over_wall, one image", "over_wall", 10, seed=3, sub_goals="one"),
)


def brief(episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outcome of each episode."""
    return [{name: e[name] for name in ("seed", "success", "error_m", "reason")} for e in episodes]


def plain(row: Row) -> dict[str, Any]:
    """Run `worldmodel eval` without baselines."""
    options = EvalOptions(
        scene=SceneOptions(task=row.task),
        episodes=row.episodes,
        seed=row.seed,
        sub_goals=row.sub_goals,
    )
    options = options.resolved()
    world = load_world_model(options.model, options.device)
    found = run_agents(options, world, (), None)[0]["planner"]
    each = {"each": brief([episode.summary() for episode in found])}
    return summarise(found, {}, options, options.scene) | each


def protocol(row: Row) -> dict[str, Any]:
    """Run `worldmodel drive robot=twin`, then index its recordings."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "drive",
            "robot=twin",
            f"task={row.task}",
            f"sub_goals={row.sub_goals}",
            f"episodes={row.episodes}",
            f"seed={row.seed}",
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
    """Run both and write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    wanted = parser.parse_args().only
    rows = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    for row in ROWS:
        if row.name in wanted and row.name not in rows:
            rows[row.name] = {"protocol": protocol(row), "plain": plain(row)}
            OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    write_page(rows)
    print(OUT, PAGE, sep="\n")


def unlike(row: dict[str, Any]) -> list[tuple[str, ...]]:
    """List the episodes that failed in at least one of them."""
    lines: list[tuple[str, ...]] = []
    for far, near in zip(row["protocol"]["each"], row["plain"]["each"], strict=True):
        if not (far["success"] and near["success"]):
            said = [e["reason"].split(" (127")[0] or "success" for e in (near, far)]
            lines.append((str(far["seed"]), *said))
    return lines


def episode_rows(rows: dict[str, Any]) -> list[tuple[str, ...]]:
    """List the cells of the table of tasks."""
    out = []
    for task, row in rows.items():
        far, near = row["protocol"], row["plain"]
        out.append(
            (
                task,
                f"{near['successes']}/{near['episodes']}",
                f"{far['successes']}/{far['episodes']}",
                str(sum("reflex" in e["reason"] for e in far["each"])),
                str(far["reasons"].get("contact", 0)),
                f"{100 * far['final_error_m']['median']:.1f} cm",
                f"{far['cycle_s']['median']:.2f} s",
                f"{far['recordings_accepted']}/{far['episodes']}",
            )
        )
    return out


def write_page(rows: dict[str, Any]) -> None:
    """Fill the blocks of docs/robot-twin.md."""
    limits = read_limits("twin")
    parts = {task: row["protocol"]["cycle_parts_s"] for task, row in rows.items()}
    names = list(next(iter(parts.values())))
    head = ("task", "plain MuJoCo", "over the protocol", "ended by a reflex")
    head += ("steps ended by contact", "median error", "median cycle", "recordings indexed")
    slow = f"{limits.slow_m_s} m/s in the last {100 * limits.slow_zone_m:.0f} cm"
    blocks = {
        "episodes": markdown_table(head, episode_rows(rows)),
        "parts": markdown_table(
            ["task", *names],
            [[t, *(f"{p[n]['median']:.3f}" for n in names)] for t, p in parts.items()],
        ),
        "failures": markdown_table(
            ("seed", "plain MuJoCo", "over the protocol"),
            [cells for row in rows.values() for cells in unlike(row)],
        ),
        "limits": markdown_table(
            ("limit", "value"),
            [
                ("speed", f"{limits.max_speed_m_s} m/s"),
                ("speed down, above the table", slow),
                ("contact that ends a motion", f"{limits.contact_n:.0f} N"),
                ("reflex", f"{limits.max_force_n:.0f} N or {limits.max_torque_nm:.0f} Nm"),
            ],
        ),
    }
    fill_blocks(PAGE, blocks)


if __name__ == "__main__":
    main()
