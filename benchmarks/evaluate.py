"""Evaluate the embedded models on every task and write the tables of docs/results.md and README.md.

    python benchmarks/evaluate.py            # everything; finished rows are kept and not run again
    python benchmarks/evaluate.py only=push  # rows whose name contains a word
    python benchmarks/evaluate.py fresh      # the rows of one goal image again, on other seeds
    python benchmarks/evaluate.py page       # only the page, from the finished rows
    python benchmarks/evaluate.py row="one image: push" one_goal=FILE results=FOLDER
                                             # one row with a model's new weights, without the page

`workers=`, `episodes=`, `seed=`, `baselines=` and `pictures=` set those options of `worldmodel
eval`, and need `results=`. Each row is one `worldmodel eval`; its summary is
benchmarks/results/eval/NAME.json. The rows of a second training need its model: run `worldmodel
train recipe=sim_small seed=1 out=runs/second` with the data of docs/model-card.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table

from planning.apps.evaluate import baselines_of, evaluate_agents, report
from planning.options import EvalOptions, SceneOptions
from planning.planner_options import GoalPlannerOptions
from worldmodel.checkpoints.loading import embedded_path, load_world_model

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "eval"
PAGE = HERE.parent / "docs" / "results.md"
README = HERE.parent / "README.md"

EARLIER = RESULTS / "earlier"
EARLIER_SEARCH = RESULTS / "earlier_search"
"""Rows with one goal image that were measured with the search's earlier defaults."""
EARLIER_WEIGHTS = RESULTS / "before_phase4"
"""Rows of one_goal_labelled before the fourth phase of its training and of one_goal before its home
head (docs/model-card.md), also those of their fresh seeds. RESULTS/before_home_head and
before_phase3 have rows of earlier weights."""
SECOND = "runs/second/model.safetensors"
"""Model of the default recipe, trained with another seed."""


ONE_GOAL, UNLABELLED = "one_goal_labelled", "one_goal"
"""Embedded models that plan skills toward one goal image, with and without a simulator's label."""
ONE_IMAGE_SEED = 700
"""Evaluation seed of the rows with one goal image: environment seeds from 8,000,000."""
FRESH, FRESH_SEED = RESULTS / "fresh", 2100
"""Rows and seed that are measured once, after all choices about model and planner."""
PUBLISHED = (RESULTS, FRESH)
"""Folders whose rows are in the tables; they hold rows of unchanged options alone."""


def _row(task: str, episodes: int, *, model: str = "default", **scene: Any) -> EvalOptions:
    scenes = SceneOptions(task=task, **scene)
    return EvalOptions(scene=scenes, episodes=episodes, model=model, device="cpu")


def _one_image(
    task: str, episodes: int = 40, *, model: str = ONE_GOAL, **scene: Any
) -> EvalOptions:
    row = _row(task, episodes, model=model, **scene)
    return replace(row, sub_goals="one", seed=ONE_IMAGE_SEED)


CYLINDER = {"split": "held_out", "objects": ["cylinder"]}
ONE_IMAGE_ROWS: dict[str, EvalOptions] = {
    "one image: pick_place": _one_image("pick_place"),
    "one image: push": _one_image("push"),
    "one image: push_pose": _one_image("push_pose"),
    "one image: over_wall": _one_image("over_wall"),
    "one image: two_objects": _one_image("two_objects"),
    "one image: pick_place, held-out appearance": _one_image("pick_place", split="held_out"),
    "one image: pick_place, cup": _one_image("pick_place", objects=["cup"]),
    "one image: pick_place, box": _one_image("pick_place", objects=["box"]),
    "one image: pick_place, held-out appearance and shape": _one_image("pick_place", **CYLINDER),
    "one image: push, held-out appearance": _one_image("push", split="held_out"),
    "one image: push_pose, T": _one_image("push_pose", objects=["T"]),
    "one image: sort": _one_image("sort", 10),
    **{
        f"one image: no simulator label: {task}": _one_image(task, model=UNLABELLED)
        for task in ("pick_place", "push", "push_pose", "over_wall", "two_objects")
    },
}
"""Rows of the first table: the goal is one image with the arm back at its start."""
HEADLINE = [
    *(f"one image: {task}" for task in ("pick_place", "push", "push_pose", "over_wall")),
    *("one image: two_objects", "one image: sort", "one image: no simulator label: pick_place"),
]
"""Rows of the README's table."""
HEADLINE_BASELINES = ("geometry", "geometry_yaw", "pose_only", "random")
ACTIONS = GoalPlannerOptions(method="actions")
ROWS: dict[str, EvalOptions] = {
    **ONE_IMAGE_ROWS,
    "reach": _row("reach", 50),
    "grasp": _row("grasp", 50),
    "reach_with_object": _row("reach_with_object", 50),
    "pick_place": _row("pick_place", 40),
    "pick_place, three sub-goals": replace(_row("pick_place", 40), sub_goals="three"),
    "push, one goal image": replace(_row("push", 40), planner=ACTIONS),
    "pick_place, held-out appearance": _row("pick_place", 40, split="held_out"),
    "pick_place, held-out appearance and shape": _row("pick_place", 40, **CYLINDER),
    "pick_place, cup": _row("pick_place", 40, objects=["cup"]),
    "pick_place, box": _row("pick_place", 40, objects=["box"]),
    "second training: reach": _row("reach", 50, model=SECOND),
    "second training: grasp": _row("grasp", 50, model=SECOND),
    "second training: pick_place": _row("pick_place", 40, model=SECOND),
    "second training: pick_place, held-out appearance": _row(
        "pick_place", 40, model=SECOND, split="held_out"
    ),
    "second training: pick_place, held-out appearance and shape": _row(
        "pick_place", 40, model=SECOND, **CYLINDER
    ),
    "unlabelled: reach": _row("reach", 50, model="unlabelled"),
    "unlabelled: grasp": _row("grasp", 50, model="unlabelled"),
    "unlabelled: pick_place": _row("pick_place", 40, model="unlabelled"),
    "unlabelled: push, one goal image": replace(
        _row("push", 40, model="unlabelled"), planner=ACTIONS
    ),
}


def rate(row: dict[str, Any]) -> str:
    """Format successes, rate and interval of a summary."""
    low, high = row["ci95"]
    return f"{row['successes']}/{row['episodes']} ({low:.0%}..{high:.0%})"


def table(found: dict[str, dict[str, Any]]) -> str:
    """Format the table of all finished rows."""
    rows = []
    for name, row in found.items():
        base = {k: rate(v) for k, v in row["baselines"].items()}
        error = f"{100 * row['final_error_m']['median']:.1f} cm"
        pace = f"{row['seconds_per_action']['median']:.2f}"
        others = [base.get(k, "") for k in ("pose_only", "random", "hold")]
        rows.append([name, f"**{rate(row)}**", error, pace, *others])
    head = ["task", "planner", "median error", "s/action", "pose-only", "random", "hold"]
    return markdown_table(head, rows)


def one_image_table(found: dict[str, dict[str, Any]]) -> str:
    """Format the table of the rows with one goal image."""
    baselines = ("geometry", "geometry_yaw", "pose_only", "copy", "random", "hold")
    rows = []
    for name, row in found.items():
        others = [row["baselines"].get(k) for k in baselines]
        counts = [f"{b['successes']}/{b['episodes']}" if b else "" for b in others]
        error = f"{100 * row['final_error_m']['median']:.1f} cm"
        pace = f"{row['seconds_per_decision']['median']:.2f}"
        rows.append([name.removeprefix("one image: "), f"**{rate(row)}**", *counts, error, pace])
    names = [name.replace("_", " + ").replace("pose + only", "pose-only") for name in baselines]
    return markdown_table(["task", "planner", *names, "median error", "s/decision"], rows)


def headline_table(found: dict[str, dict[str, Any]]) -> str:
    """Format the rows that the README shows."""
    rows = []
    for name, row in found.items():
        others = [row["baselines"][k] for k in HEADLINE_BASELINES]
        counts = [f"{b['successes']}/{b['episodes']}" for b in others]
        rows.append([name.removeprefix("one image: "), f"**{rate(row)}**", *counts])
    head = ["task", "planner", "geometry", "geometry + yaw", "pose-only", "random"]
    return markdown_table(head, rows)


def probe_table() -> str:
    """Format the latent probes measured by `worldmodel inspect probes`."""
    names = ["object_encoded_m", "object_predicted_m", "loss_true", "loss_copy", "loss_shuffled"]
    rows = []
    for file in sorted((RESULTS.parent / "probes").glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        numbers = [
            f"{100 * found[n]:.2f} cm" if n.endswith("_m") else f"{found[n]:.4f}" for n in names
        ]
        rows.append([file.stem, *numbers])
    return markdown_table(["model", *(n.removesuffix("_m").replace("_", " ") for n in names)], rows)


def appearance_table() -> str:
    """Format the effect of appearance changes measured by benchmarks/appearance.py."""
    found = json.loads((RESULTS.parent / "appearance.json").read_text(encoding="utf-8"))
    first = next(iter(found.values()))
    rows = []
    for factor in first["rows"]:
        cells = (column["rows"][factor] for column in found.values())
        rows.append([factor, *(f"{c['median_cm']:.2f} / {c['p90_cm']:.2f} cm" for c in cells)])
    head = ["scenes that differ from training in", *found]
    return f"{markdown_table(head, rows)}\n\n{first['scenes']} scenes per row."


def stored(name: str, folder: Path = RESULTS) -> Path:
    """Return the file of a row's summary."""
    return folder / f"{name.replace(': ', '-').replace(', ', '-').replace(' ', '_')}.json"


def read_rows(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read the finished rows of a folder."""
    files = {name: stored(name, folder) for name in names}
    return {n: json.loads(f.read_text(encoding="utf-8")) for n, f in files.items() if f.is_file()}


def is_missing(model: str) -> bool:
    """Return whether a model is neither embedded nor a file."""
    return not embedded_path(model).is_file() and not Path(model).is_file()


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    only: str = ""
    """Part of the rows' names."""
    row: str = ""
    """Name of the only row."""
    results: Path = RESULTS
    """Folder of the rows' summaries."""
    weights: dict[str, str] = field(default_factory=dict)
    """File to read instead of an embedded model, by the model's name."""
    changes: dict[str, int | bool] = field(default_factory=dict)
    """Options of `worldmodel eval` that differ from those of the row."""

    @classmethod
    def read(cls, words: list[str]) -> Request:
        """Read words `key=value`; other keys are names of models."""
        if fresh := "fresh" in words:
            words = [word for word in words if word != "fresh"]
        given = dict(word.split("=", 1) for word in words)
        numbers = {k: int(given.pop(k)) for k in ("workers", "episodes", "seed") if k in given}
        flags = {k: given.pop(k) == "true" for k in ("baselines", "pictures") if k in given}
        only, row = given.pop("only", ""), given.pop("row", "")
        results = Path(given.pop("results", FRESH if fresh else RESULTS))
        unknown = [name for name in given if not embedded_path(name).is_file()]
        if unknown or (row and row not in ROWS):
            raise SystemExit(f"unknown: {' '.join([*unknown, row])}, see the top of this script")
        if results in PUBLISHED and (numbers or flags or given):
            raise SystemExit("changed options and weights need results=FOLDER")
        changes = {**numbers, **flags}
        if fresh:
            changes["seed"], only = FRESH_SEED, only or "one image: "
        return cls(only=only, row=row, results=results, weights=given, changes=changes)

    def asks_for(self, name: str) -> bool:
        """Return whether a row is asked for and has no result."""
        chosen = name == self.row if self.row else self.only in name
        return chosen and not stored(name, self.results).is_file()


def run_row(name: str, options: EvalOptions, request: Request) -> None:
    """Run a row and write its summary."""
    file = stored(name, request.results)
    folder = "fresh/" if request.results == FRESH else ""
    out = f"runs/evaluate/{folder}{file.stem}"
    if request.results not in PUBLISHED:
        out = str(request.results / "runs" / file.stem)
    options = replace(options, out=out, **request.changes).resolved()
    weights = request.weights.get(options.model, options.model)
    world = load_world_model(weights, options.device, options.precision)
    found = evaluate_agents(options, world, baselines_of(options, world))
    summary, page = report(options, found)
    if summary["interrupted"]:
        raise SystemExit(130)
    file.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(name, rate(summary), page, flush=True)


def main() -> None:
    """Run the missing rows, then write the page."""
    if "page" in sys.argv:
        write_page()
        return
    request = Request.read(sys.argv[1:])
    request.results.mkdir(parents=True, exist_ok=True)
    for name, options in ROWS.items():
        if not request.asks_for(name):
            continue
        if is_missing(request.weights.get(options.model, options.model)):
            print(f"{name}: no {options.model}, see the top of this script; skipped")
            continue
        run_row(name, options, request)
        if request.results in PUBLISHED:
            write_page()
    if request.results in PUBLISHED:
        write_page()
        print(PAGE)


def write_page() -> None:
    """Fill the blocks of docs/results.md and README.md from the finished rows."""
    sub_goals = [name for name in ROWS if name not in ONE_IMAGE_ROWS]
    blocks = {
        "one_image": one_image_table(read_rows(RESULTS, ONE_IMAGE_ROWS)),
        "one_image_fresh": one_image_table(read_rows(FRESH, ONE_IMAGE_ROWS)),
        "one_image_earlier": one_image_table(read_rows(EARLIER_SEARCH, ONE_IMAGE_ROWS)),
        "one_image_before": one_image_table(read_rows(EARLIER_WEIGHTS, ONE_IMAGE_ROWS)),
        "one_image_before_fresh": one_image_table(
            read_rows(EARLIER_WEIGHTS / "fresh", ONE_IMAGE_ROWS)
        ),
        "success": table(read_rows(RESULTS, sub_goals)),
        "earlier": table(read_rows(EARLIER, sub_goals)),
    }
    fill_blocks(PAGE, blocks | {"probes": probe_table(), "appearance": appearance_table()})
    fill_blocks(README, {"headline": headline_table(read_rows(RESULTS, HEADLINE))})


if __name__ == "__main__":
    main()
