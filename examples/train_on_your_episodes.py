"""Collect a few simulated episodes, index them, train a small model and inspect it.

    python examples/train_on_your_episodes.py [FOLDER] [STEPS]

Replace the first command by your own recordings: raw DROID, RLDS or LeRobot episodes in one folder.
A few steps only show that the pipeline works; docs/model-card.md lists the commands that trained
the shipped models.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from planning.cli.app import main as worldmodel
from worldmodel import load_world_model

SMALL = ["image_size=64", "patch_size=64", "stem_channels=[8,16]", "encoder_dim=32"]
SMALL += ["predictor_dim=32", "predictor_depth=1"]
"""Model sizes that train in seconds on a CPU."""


def run(*words: str) -> None:
    """Print and run one `worldmodel` command; stop if it fails."""
    print("$ worldmodel", *words, flush=True)
    if worldmodel(list(words)):
        raise SystemExit(1)


def main(folder: str = "runs/example", steps: str = "20") -> dict[str, float]:
    """Run the four steps in `folder` and return the last validation metrics."""
    data, index, out = f"{folder}/data", f"{folder}/index", f"{folder}/run"
    run("collect", f"out={data}", "episodes=6", "length=8", "workers=1")
    run("data", "index", f"root={data}", f"out={index}")
    where = (f"data={data}", f"val={data}")
    often = (f"steps={steps}", "batch_size=8", "log_every=1", f"eval_every={steps}")
    run("train", *where, f"out={out}", *often, *SMALL)
    run(
        "inspect",
        "probes",
        *where,
        f"model={out}",
        "count=30",
        "fit_steps=50",
        f"out={folder}/probes",
    )

    model = load_world_model(out)
    print(f"observations: {model.observation_spec}")
    print(f"actions: {model.action_spec}")
    summary = json.loads((Path(out) / "summary.json").read_text(encoding="utf-8"))
    return summary["last"]


if __name__ == "__main__":
    main(*sys.argv[1:3])
