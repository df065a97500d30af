"""Success rates of the baselines without a model where no other benchmark runs them.

    python benchmarks/baselines.py [only=WORD] [episodes=25]

Rows are the robot of the DROID data set (seed 0 of `worldmodel eval`, its default) and Fetch (the
seed and numbers of episodes of results/fetch.json; extra `fetch`). Writes results/baselines.json
after every row, and the tables of docs/environments.md and docs/your-environment.md; `only=` runs
the rows whose name contains a word and keeps the others. Two minutes of one core.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from option_words import read_words
from page_blocks import fill_blocks, markdown_table

import envs
from planning.apps.environments import open_environment
from planning.apps.eval_summary import rates_of
from planning.baselines import BASELINES, make_baseline
from planning.rollout import episode_seed, run_episode

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "baselines.json"
FETCH = HERE / "results" / "fetch.json"
ENVIRONMENTS = HERE.parent / "docs" / "environments.md"
YOUR_ENVIRONMENT = HERE.parent / "docs" / "your-environment.md"
FETCH_SEED = 1
"""Seed of the evaluations of benchmarks/gpu_fetch.sh."""
FETCH_RECIPE = "sim_small"
SIDE_PX = 32
"""Height of the images, which these baselines do not see."""
DROID_TASKS = ("reach", "grasp", "reach_with_object", "pick_place")
NAMES = {
    "pose_only": "straight to the pose of each goal image",
    "hold": "no motion",
    "random": "random motion",
}
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Environment and episodes of a row."""

    task: str
    environment: str = ""
    """Name of an environment in place of the table's scene with the robot of DROID."""
    seed: int = 0
    episodes: int = 25


def fetch_rows() -> dict[str, Row]:
    """Return the planner's rows of Fetch by task."""
    found = json.loads(FETCH.read_text(encoding="utf-8"))["rows"]
    return {row["task"]: row for row in found if row["recipe"] == FETCH_RECIPE}


def cases(episodes: int) -> dict[str, Case]:
    """Return the rows by name; those of Fetch have the planner's number of episodes."""
    found = {f"droid: {task}": Case(task=task, episodes=episodes) for task in DROID_TASKS}
    for task, row in fetch_rows().items():
        name, count = f"fetch_{task}", row["planner"]["episodes"]
        found[name] = Case(task=name, environment=name, seed=FETCH_SEED, episodes=count)
    return found


def open_case(case: Case) -> Any:
    """Open the environment of a row."""
    if case.environment:
        return open_environment(case.environment, SIDE_PX)
    return envs.make(case.task, embodiment="droid", image_size=SIDE_PX)


def run_case(case: Case) -> Row:
    """Run each baseline on the same episodes; return counts, intervals and errors by baseline."""
    found: Row = {"seed": case.seed, "episodes": case.episodes}
    with closing(open_case(case)) as env:
        spec = env.arm_spec
        for name in BASELINES:
            agent = make_baseline(name, spec.max_step_m, spec.action_dim)
            seeds = [episode_seed(case.seed, index) for index in range(case.episodes)]
            done = [
                run_episode(env, agent, task=case.task, seed=seed, keep_frames=False)
                for seed in seeds
            ]
            found[name] = rates_of(done)
    return found


def count(rates: Row) -> str:
    """Return successes of episodes with their interval."""
    low, high = rates["ci95"]
    return f"{rates['successes']}/{rates['episodes']} ({low:.0%}..{high:.0%})"


def droid_table(kept: dict[str, Row]) -> str:
    """Return the table of the rows of the robot of DROID."""
    rows = {task: kept[f"droid: {task}"] for task in DROID_TASKS if f"droid: {task}" in kept}
    head = ["baseline", *rows]
    return markdown_table(head, [[x, *(count(r[x]) for r in rows.values())] for x in NAMES])


def fetch_table(kept: dict[str, Row]) -> str:
    """Return the table of Fetch: what was trained, the planner, and the baselines."""
    rows = fetch_rows()
    last = [row["last"] for row in rows.values()]
    copy = [f"{1 - x['val_true'] / x['val_copy']:.0%} better" for x in last]
    others = [f"{x['val_shuffled'] / x['val_true'] - 1:.0%} worse" for x in last]
    recorded = [row["recorded"] for row in rows.values()]
    cells = [
        ["episodes recorded", *(f"{x['episodes']} in {x['seconds']:.0f} s" for x in recorded)],
        ["steps of 64 clips", *(f"{x['step'] + 1:,}" for x in last)],
        ["prediction, against a copy of the last frame", *copy],
        ["prediction, with the actions of other clips", *others],
        [
            "error of the cube's position, decoded from held-out frames",
            *(f"{100 * x['val_object_encoded_m']:.1f} cm" for x in last),
        ],
        ["planner", *(count(row["planner"]) for row in rows.values())],
    ]
    if all(f"fetch_{task}" in kept for task in rows):
        cells += [[NAMES[x], *(count(kept[f"fetch_{task}"][x]) for task in rows)] for x in NAMES]
    return markdown_table(["", *(f"fetch_{task}" for task in rows)], cells)


def write_pages(kept: dict[str, Row]) -> None:
    """Fill the tables of both pages."""
    fill_blocks(ENVIRONMENTS, {"droid_baselines": droid_table(kept)})
    fill_blocks(YOUR_ENVIRONMENT, {"fetch": fetch_table(kept)})


def main(words: list[str]) -> None:
    """Run, print and store the rows.

    Raises:
        SystemExit: An option is unknown.
    """
    given = read_words(words, {"episodes": "25", "only": ""})
    kept = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    for name, case in cases(int(given["episodes"])).items():
        if given["only"] in name:
            kept[name] = run_case(case)
            print(name, {x: count(kept[name][x]) for x in BASELINES}, flush=True)
            OUT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write_pages(kept)


if __name__ == "__main__":
    main(sys.argv[1:])
