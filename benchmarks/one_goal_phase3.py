"""Train the predictor of one_goal_labelled further, on more pushes, pairs and walls.

    git show ed484e9:worldmodel/weights/one_goal_labelled.safetensors > phase2.safetensors
    python benchmarks/one_goal_phase3.py phase2.safetensors runs/phase3

START=phase2.safetensors are the weights after phase 2 of docs/model-card.md; OUT=runs/phase3 gets
the data (13,020 episodes, half an hour of one core) and the two runs (6,600 steps of 32 clips, 45
minutes of one core). Encoder and object head stay as they are. What is finished is not done again,
and a run that was stopped resumes. OUT/second/model.safetensors are the shipped weights.

SCALE=0.01 in the environment makes that share of the episodes and steps, to try the script itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from one_goal_data import PHASE3, PHASE3_BASE, PHASE3_VAL, PHASE3_WORDS, DataSet

RUNS = ("first", "second")


def worldmodel(*words: str) -> None:
    """Run a command of the package; an error ends the script."""
    subprocess.run([sys.executable, "-m", "worldmodel", *words], check=True)


def scaled(count: int) -> int:
    """Return the number of episodes or steps in this run of the script."""
    return max(4, round(count * float(os.environ.get("SCALE", "1"))))


def collect(data: DataSet, out: Path) -> None:
    """Record a data set, if it is not complete."""
    if not (out / data.name / "summary.json").is_file():
        words = [*data.words.split(), f"episodes={scaled(data.episodes)}", f"seed={data.seed}"]
        worldmodel("collect", *words, f"out={out / data.name}")


def training_words(data: Path, run: int) -> list[str]:
    """Return the options of a run that name its data, length and learning rate."""
    found = {str(data / sets.name): shares[run] for sets, shares in PHASE3.items() if shares[run]}
    steps, *others = PHASE3_WORDS[run].split()
    return [
        "recipe=sim_one_goal_labelled_long",
        f"data={data / PHASE3_BASE.name}",
        f"val={data / PHASE3_VAL.name}",
        f"more_data={','.join(found)}",
        f"more_shares={','.join(f'{share:g}' for share in found.values())}",
        f"steps={scaled(int(steps.removeprefix('steps=')))}",
        *others,
        *("batch_size=32", "threads=1", "device=cpu", "log_every=25"),
        f"eval_every={(200, 250)[run]}",
    ]


def main() -> None:
    """Record the data and train both runs."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    start, out = Path(sys.argv[1]), Path(sys.argv[2])
    for data in (PHASE3_BASE, PHASE3_VAL, *PHASE3):
        collect(data, out / "data")
    for run, name in enumerate(RUNS):
        words = training_words(out / "data", run)
        worldmodel("train", *words, f"encoder={start}", f"out={out / name}")
        start = out / name / "model.safetensors"
    print(start)


if __name__ == "__main__":
    main()
