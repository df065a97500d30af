"""Write the measured results in docs/model-card.md from the embedded models' training runs.

python benchmarks/model_card.py default=runs/default@COMMIT unlabelled=runs/unlabelled@COMMIT

If the episodes were collected at an earlier commit than the training: RUN@COMMIT@EARLIER.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from option_words import read_words
from page_blocks import fill_blocks, markdown_table, wrap

from worldmodel.checkpoints.loading import embedded_path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "model-card.md"
RECIPES = {"default": "sim_small", "unlabelled": "sim_small_unlabelled"}

WINDOWS = 25
"""Clips of 4 frames in an episode of 28."""
OBJECTS = "objects=[cube,cube,cube,box,cup]"
ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "parameters": lambda s: f"{s['parameters']:,}",
    "clips of 4 frames": lambda s: f"{s['clips']:,}",
    "optimiser steps x batch": lambda s: "{steps} x {batch_size}".format(**s["options"]["loop"]),
    "minutes on one core": lambda s: f"{s['minutes']:.0f}",
    "label from the simulator": lambda s: s["simulator_label"],
    "validation loss, true / copied / shuffled actions": lambda s: " / ".join(
        f"{s['last'][k]:.4f}" for k in ("val_true", "val_copy", "val_shuffled")
    ),
}
"""Rows of the table, from a run's summary."""


def main() -> None:
    """Write the results into the page."""
    words = read_words(sys.argv[1:], {}, required=RECIPES)
    given = {name: word.split("@")[0] for name, word in words.items()}
    commits = {name: word.split("@")[1:] for name, word in words.items()}
    found = {n: json.loads((Path(r) / "summary.json").read_text("utf-8")) for n, r in given.items()}
    commands = []
    for name in given:
        episodes = found[name]["clips"] // WINDOWS
        made = (
            f"`{name}`: seed 0, trained at commit `{commits[name][0]}`, episodes collected at "
            f"`{commits[name][-1]}` (appearance, physics and recipe as of those commits):"
        )
        commands += [
            f"{wrap(made)}\n",
            f"    worldmodel collect episodes={episodes} {OBJECTS} out=runs/data/train",
            f"    worldmodel collect episodes=200 seed=100000 {OBJECTS} out=runs/data/val",
            f"    worldmodel train recipe={RECIPES[name]} threads=1 out=runs/{name}\n",
        ]
    cells = [[label, *(value(found[n]) for n in given)] for label, value in ROWS.items()]
    digests = [hashlib.sha256(embedded_path(n).read_bytes()).hexdigest()[:16] for n in given]
    cells.append(["SHA-256 begins", *(f"`{d}`" for d in digests)])
    table = markdown_table(["measure", *given], cells)
    fill_blocks(PAGE, {"commands": "\n".join(commands), "runs": table})
    print(PAGE)


if __name__ == "__main__":
    main()
