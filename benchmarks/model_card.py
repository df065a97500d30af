"""Write docs/model-card.md from the runs that made the embedded models.

python benchmarks/model_card.py default=runs/default@COMMIT unlabelled=runs/unlabelled@COMMIT

Where the episodes were collected at an earlier commit than the training: RUN@COMMIT@EARLIER.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from worldmodel.checkpoints.io import embedded_path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "model-card.md"
RECIPES = {"default": "sim_small", "unlabelled": "sim_small_unlabelled"}

WINDOWS = 25
"""Clips of 4 frames in an episode of 28."""
OBJECTS = "objects=[cube,cube,cube,box,cup]"
INTRO = """# The embedded models

Two small V-JEPA world models that run on any laptop: a convolutional stem and one transformer
block (one token of 256 numbers a frame, 128 x 128 px, one exterior camera), and a block-causal
action-conditioned predictor of 4 blocks. They were trained jointly on simulated play of a Franka
arm with one object on a table, by the commands below and nothing else, on two CPU cores.

**`default` uses a label from the simulator**: the object's position is an auxiliary target of
small heads on the encoded and predicted latents (weight 2), thrown away after training.
**`unlabelled` uses none.** Both also regress the robot's own state and the action from the
latent. Planning uses pictures, the robot's state and goal pictures only.

Why joint training with an anti-collapse term (variance and covariance, as in VICReg) and not
masked pretraining: measured beside each other in [pretraining.md](pretraining.md). The encoder has
to learn a few pixels (fingers, object) in about an hour, and the action tells which matter.

Not for use beyond this: one object, a rotation that stays fixed, looks as in `envs/scene.py`;
never on a real arm.
"""


def main() -> None:
    """Write the page."""
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    given = {name: word.split("@")[0] for name, word in words.items()}
    commits = {name: word.split("@")[1:] for name, word in words.items()}
    found = {n: json.loads((Path(r) / "summary.json").read_text("utf-8")) for n, r in given.items()}
    lines = [INTRO, "## How they were made\n"]
    for name in given:
        episodes = found[name]["clips"] // WINDOWS
        lines += [
            f"`{name}`: seed 0, trained at commit `{commits[name][0]}`, episodes collected at "
            f"`{commits[name][-1]}` (looks, physics and recipe as they were then):\n",
            f"    worldmodel collect episodes={episodes} {OBJECTS} out=runs/data/train",
            f"    worldmodel collect episodes=200 seed=100000 {OBJECTS} out=runs/data/val",
            f"    worldmodel train recipe={RECIPES[name]} threads=1 out=runs/{name}\n",
        ]
    lines += ["", "| | " + " | ".join(given) + " |", "|---" * (len(given) + 1) + "|"]
    rows = {
        "parameters": lambda s: f"{s['parameters']:,}",
        "clips of 4 frames": lambda s: f"{s['clips']:,}",
        "optimiser steps x batch": lambda s: (
            f"{s['options']['steps']} x {s['options']['batch_size']}"
        ),
        "minutes on one core": lambda s: f"{s['minutes']:.0f}",
        "label from the simulator": lambda s: s["simulator_label"],
        "validation loss, true / copied / shuffled actions": lambda s: " / ".join(
            f"{s['last'][k]:.4f}" for k in ("val_true", "val_copy", "val_shuffled")
        ),
    }
    lines += [f"| {k} | " + " | ".join(f(found[n]) for n in given) + " |" for k, f in rows.items()]
    digests = [hashlib.sha256(embedded_path(n).read_bytes()).hexdigest()[:16] for n in given]
    lines.append("| SHA-256 begins | " + " | ".join(f"`{d}`" for d in digests) + " |")
    lines.append(
        "\nHow well they do: [results.md](results.md), made by `python benchmarks/evaluate.py`.\n"
    )
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
