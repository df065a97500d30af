"""Ask V-JEPAs pretrained on made clips which of two videos is impossible.

    python benchmarks/shapes_pretraining.py objectives=latent seeds=0,1,2   # the runs to ask
    python benchmarks/shape_surprise.py            # a minute of one core for each; resumable
    python benchmarks/shape_surprise.py models=latent_small_predictor-0   # other runs, by name
    python benchmarks/shape_surprise.py only=page  # the page alone

`worldmodel data shapes` makes pairs of videos: in the impossible one, the shape vanishes, appears
or jumps in the middle. `worldmodel surprise` measures the predictor's errors of both: in the window
whose seen frames end where the event begins, in the window that begins there, and on average over
all windows. Vanishing and appearing in one scene are also taken together, as in IntPhys: the two
impossible videos show the same frames as the two possible ones. The pairs' seed is one that no
training uses. Results go to results/shape_surprise.json and docs/pretraining.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from option_words import read_words
from page_blocks import fill_blocks, markdown_table
from shapes_page import PAGE, TITLES
from torch import Tensor

from planning.metrics import wilson
from worldmodel.atomic_io import write_json
from worldmodel.perception.surprise.pair_metrics import pair_metrics

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "shape_surprise.json"
DEFAULTS = {
    "runs": "runs/shapes_compared",
    "out": "runs/shape_surprise",
    "result": str(RESULT),
    "pairs": "100",
    "models": "latent-0,latent-1,latent-2,untrained-0",
    "only": "",
}
FRAMES, EVENT, CONTEXTS = 6, 6, (2, 4)
"""Frames of a window, first frame that is impossible, and frames of a window that are seen."""
WINDOW = [f"num_frames={FRAMES}", f"contexts={CONTEXTS[0]},{CONTEXTS[1]}", "step=1", "stride=1"]
BOTH = ("vanishes", "appears")
"""Events that make up a set of four videos with the same frames."""
EVENTS = ("jumps", *BOTH, " or ".join(BOTH))
Curves = list[Tensor]
"""Surprise of the windows of each video."""


def worldmodel(*words: str) -> None:
    """Run `worldmodel WORDS`."""
    subprocess.run([sys.executable, "-m", "worldmodel", *words], check=True)


def curves_of(kept: list[dict[str, Any]], event: str, side: str, place: int) -> Curves:
    """Return the surprises of the possible or impossible videos of an event, in a context.

    Those of both events together are the sums over a scene.
    """
    if event == EVENTS[-1]:
        parts = [curves_of(kept, single, side, place) for single in BOTH]
        return [sum(scene, torch.zeros(())) for scene in zip(*parts, strict=True)]
    pairs = sorted(
        (pair for pair in kept if pair["group"] == event),
        key=lambda pair: int(pair["name"].rpartition("/")[2]),
    )
    return [torch.tensor(pair[side][place]) for pair in pairs]


def won(possible: Curves, impossible: Curves, window: int) -> int:
    """Count the pairs whose impossible video surprises more in a window."""
    return sum(
        float(b[window]) > float(a[window]) for a, b in zip(possible, impossible, strict=True)
    )


def measured(name: str, options: dict[str, str]) -> list[dict[str, Any]]:
    """Return the figures of a run, for each event and context."""
    out, run = Path(options["out"]), Path(options["runs"]) / name / "run"
    data, folder = out / "data", out / name
    if not (data / "pairs" / "level2" / f"IP_{BOTH[1]}").is_dir():
        counts = ["train=0", "val=0", "images=0", f"pairs={options['pairs']}"]
        worldmodel("data", "shapes", *counts, f"out={data}")
    where = [f"data={data}/pairs", f"model={run}", f"out={folder}", "pictures=4", "device=cpu"]
    worldmodel("surprise", "benchmark=grasp", *where, *WINDOW)
    kept = json.loads((folder / "pairs.json").read_text("utf-8"))["pairs"]
    rows = []
    for event, (place, context) in product(EVENTS, enumerate(CONTEXTS)):
        videos = [curves_of(kept, event, side, place) for side in ("possible", "impossible")]
        scores = pair_metrics(*videos)
        count = scores.num_pairs
        row = {"event": event, "context": context, "pairs": count}
        row |= {"won_at_event": won(*videos, EVENT - context), "won_after": won(*videos, EVENT)}
        row |= {"won": round(scores.relative_mean * count / 100), "auroc_mean": scores.auroc_mean}
        rows.append(row | {"auroc_mean_ci95": scores.auroc_mean_ci95})
    return rows


def _share(won: int, count: int) -> str:
    low, high = wilson(won, count)
    return f"{won} of {count} ({100 * low:.0f} to {100 * high:.0f} %)"


def surprise_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Format one row for each run and event, with the larger context."""
    rows = []
    for name, figures in found.items():
        objective, _, seed = name.rpartition("-")
        for row in (row for row in figures if row["context"] == CONTEXTS[-1]):
            shares = [
                _share(row[key], row["pairs"]) for key in ("won_at_event", "won_after", "won")
            ]
            low, high = row["auroc_mean_ci95"]
            auroc = f"{row['auroc_mean']:.2f} ({low:.2f} to {high:.2f})"
            cells = [TITLES[objective], seed, row["event"]]
            rows.append([*cells, *shares, auroc])
    head = ["networks", "seed", "the shape", "at the event", "after it"]
    return markdown_table([*head, "mean of all windows", "AUROC of the mean"], rows)


def write_page(found: dict[str, list[dict[str, Any]]]) -> None:
    """Fill the block of the page."""
    fill_blocks(PAGE, {"shape_surprise": surprise_table(found)})


def main() -> None:
    """Measure the runs without a result, and write the table."""
    options = read_words(sys.argv[1:], DEFAULTS)
    file = Path(options["result"])
    found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    for name in options["models"].split(",") if options["only"] != "page" else ():
        if name not in found:
            found[name] = measured(name, options)
            write_json(file, found)
    if file == RESULT:
        write_page(found)
        print(PAGE)


if __name__ == "__main__":
    main()
