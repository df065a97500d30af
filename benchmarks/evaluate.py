"""Evaluate the embedded models on every task and write the tables of docs/results.md.

    python benchmarks/evaluate.py            # everything; finished rows are kept and not run again
    python benchmarks/evaluate.py only=push  # rows whose name holds a word

Each row is one `worldmodel eval`; its summary lies in benchmarks/results/eval/NAME.json. The rows
of a second training need its model, made with `worldmodel train recipe=sim_small seed=1
out=runs/second`, data as in docs/model-card.md.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# run as a script: benchmarks/planning.py would hide the package here and in worker processes
sys.path[:] = [p for p in sys.path if not p or Path(p).resolve() != HERE]

from planning.cli.eval import Options, evaluate  # noqa: E402

RESULTS = HERE / "results" / "eval"
PAGE = HERE.parent / "docs" / "results.md"

EARLIER = RESULTS / "earlier"
EARLIER_SAYS = (
    "Measured in the physics before commit 8d37e29, in which fingers entered objects that were "
    "drawn larger than the middle\nsize and contacts flickered there; the models of these rows are "
    "not shipped and were not measured again:"
)
SECOND = "runs/second/model.safetensors"
"""The default model's recipe trained from nothing once more, with another seed."""
ROWS: dict[str, Options] = {
    "reach": Options(task="reach", episodes=50),
    "grasp": Options(task="grasp", episodes=50),
    "reach_with_object": Options(task="reach_with_object", episodes=50),
    "pick_place": Options(task="pick_place", episodes=40),
    "pick_place, three sub-goals": Options(task="pick_place", episodes=40, sub_goals="three"),
    "push, one goal image": Options(task="push", episodes=40),
    "pick_place, held-out looks": Options(task="pick_place", episodes=40, split="held_out"),
    "pick_place, held-out looks and shape": Options(
        task="pick_place", episodes=40, split="held_out", objects=["cylinder"]
    ),
    "pick_place, cup": Options(task="pick_place", episodes=40, objects=["cup"]),
    "pick_place, box": Options(task="pick_place", episodes=40, objects=["box"]),
    "second training: reach": Options(task="reach", model=SECOND, episodes=50),
    "second training: grasp": Options(task="grasp", model=SECOND, episodes=50),
    "second training: pick_place": Options(task="pick_place", model=SECOND, episodes=40),
    "second training: pick_place, held-out looks": Options(
        task="pick_place", model=SECOND, episodes=40, split="held_out"
    ),
    "second training: pick_place, held-out looks and shape": Options(
        task="pick_place", model=SECOND, episodes=40, split="held_out", objects=["cylinder"]
    ),
    "unlabelled: reach": Options(task="reach", model="unlabelled", episodes=50),
    "unlabelled: grasp": Options(task="grasp", model="unlabelled", episodes=50),
    "unlabelled: pick_place": Options(task="pick_place", model="unlabelled", episodes=40),
    "unlabelled: push, one goal image": Options(task="push", model="unlabelled", episodes=40),
}


def rate(row: dict[str, Any]) -> str:
    """Successes, rate and interval of a summary, for a table."""
    low, high = row["ci95"]
    return f"{row['successes']}/{row['episodes']} ({low:.0%}..{high:.0%})"


def table(found: dict[str, dict[str, Any]]) -> str:
    """The Markdown table of all finished rows."""
    lines = [
        "| | planner | median error | s/action | pose-only | random | hold |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        base = {k: rate(v) for k, v in row["baselines"].items()}
        lines.append(
            f"| {name} | **{rate(row)}** | {100 * row['final_error_m']['median']:.1f} cm | "
            f"{row['seconds_per_action']['median']:.2f} | {base.get('pose_only', '')} | "
            f"{base.get('random', '')} | {base.get('hold', '')} |"
        )
    return "\n".join(lines)


def probe_table() -> str:
    """What the latent knows, as `worldmodel inspect probes` found it, in Markdown."""
    names = ["object_encoded_m", "object_predicted_m", "loss_true", "loss_copy", "loss_shuffled"]
    rows = []
    for file in sorted((RESULTS.parent / "probes").glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        numbers = [
            f"{100 * found[n]:.2f} cm" if n.endswith("_m") else f"{found[n]:.4f}" for n in names
        ]
        rows.append(f"| {file.stem} | " + " | ".join(numbers) + " |")
    if not rows:
        return ""
    head = "| model | " + " | ".join(n.removesuffix("_m").replace("_", " ") for n in names) + " |"
    return (
        "Probes on unseen episodes (`worldmodel inspect probes model=NAME`): error of the object's "
        "position decoded from encoded frames and from one-step predictions of moving objects, and "
        "the prediction loss with true, no (copy) and shuffled actions. The other decoders are in "
        "benchmarks/results/probes/.\n\n"
        + "\n".join([head, "|---" * (len(names) + 1) + "|", *rows])
        + "\n"
    )


def looks_table() -> str:
    """What each change of looks costs, as benchmarks/looks.py found it, in Markdown."""
    file = RESULTS.parent / "looks.json"
    if not file.is_file():
        return ""
    found = json.loads(file.read_text(encoding="utf-8"))
    scenes = next(iter(found.values()))["scenes"]
    lines = [
        "| scenes that differ from training in | " + " | ".join(found) + " |",
        "|---" * (len(found) + 1) + "|",
    ]
    for factor in next(iter(found.values()))["rows"]:
        cells = (column["rows"][factor] for column in found.values())
        numbers = [f"{c['median_cm']:.2f} / {c['p90_cm']:.2f} cm" for c in cells]
        lines.append(f"| {factor} | " + " | ".join(numbers) + " |")
    return (
        "\nError of one planned move (median / 90th percentile) between two pictures of the same "
        f"scene, {scenes} scenes a row (`python benchmarks/looks.py`): which of the held-out "
        "split's changes costs what.\n\n" + "\n".join(lines) + "\n"
    )


def stored(name: str, folder: Path = RESULTS) -> Path:
    """Where a row's summary lies."""
    return folder / f"{name.replace(': ', '-').replace(', ', '-').replace(' ', '_')}.json"


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Finished rows of a folder."""
    files = {name: stored(name, folder) for name in ROWS}
    return {n: json.loads(f.read_text(encoding="utf-8")) for n, f in files.items() if f.is_file()}


def main() -> None:
    """Run what is missing, then write the page."""
    only = sys.argv[1].removeprefix("only=") if len(sys.argv) > 1 else ""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name, options in ROWS.items():
        file = stored(name)
        if options.model == SECOND and not Path(SECOND).is_file():
            print(f"{name}: no {SECOND}, see this script's head; left out")
        elif only in name and not file.is_file():
            out = f"runs/evaluate/{file.stem}"
            summary, page = evaluate(replace(options, out=out))
            file.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
            print(name, rate(summary), page, flush=True)
            write_page()
    write_page()
    print(PAGE)


def write_page() -> None:
    """Write docs/results.md from the rows that are finished."""
    earlier = read_rows(EARLIER)
    before = f"{EARLIER_SAYS}\n\n{table(earlier)}\n\n" if earlier else ""
    PAGE.write_text(
        "# Results\n\nMade by `python benchmarks/evaluate.py`; nothing is typed in by hand. "
        "Successes of trials on unseen seeds with the 95 % Wilson interval.\n`pose-only` is handed "
        "the robot pose of every goal picture, which the planner is not.\n\n"
        f"{table(read_rows(RESULTS))}\n\n{before}{probe_table()}{looks_table()}",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
