"""Train the predictor of one_goal_labelled further: phases 3 and 4 of docs/model-card.md.

    python benchmarks/one_goal_predictor.py 3 phase2.safetensors runs/phase3
    python benchmarks/one_goal_predictor.py 4 head.safetensors runs/phase4

The first word is the phase, the second the weights that it starts from. The folder gets the data
and the runs: phase 3 has 13,020 episodes (half an hour of one core) and 6,600 steps of 32 clips (45
minutes); phase 4 has 8,520 episodes, 6,920 of them those of phase 3, and 2,000 steps (15 minutes).
Encoder and heads stay as they are. What is finished is not done again, and a run that was stopped
resumes. The last run's model.safetensors are the weights after the phase.

SCALE=0.01 in the environment makes that share of the episodes and steps, to try the script itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from one_goal_data import LATER_BASE, LATER_VAL, PHASES, DataSet, Phase


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


def training_words(data: Path, phase: Phase, run: int) -> list[str]:
    """Return the options of a run that name its data, length and learning rate."""
    found = {str(data / sets.name): shares[run] for sets, shares in phase.sets.items()}
    found = {name: share for name, share in found.items() if share}
    steps, *others = phase.words[run].split()
    return [
        "recipe=sim_one_goal_labelled_long",
        f"data={data / LATER_BASE.name}",
        f"val={data / LATER_VAL.name}",
        f"more_data={','.join(found)}",
        f"more_shares={','.join(f'{share:g}' for share in found.values())}",
        f"steps={scaled(int(steps.removeprefix('steps=')))}",
        *others,
        *("batch_size=32", "threads=1", "device=cpu", "log_every=25"),
        f"eval_every={phase.eval_every[run]}",
    ]


def main() -> None:
    """Record the data of a phase and train its runs."""
    if len(sys.argv) != 4 or sys.argv[1] not in map(str, PHASES):
        raise SystemExit(__doc__)
    phase, start, out = PHASES[int(sys.argv[1])], Path(sys.argv[2]), Path(sys.argv[3])
    for data in (LATER_BASE, LATER_VAL, *phase.sets):
        collect(data, out / "data")
    for run, name in enumerate(phase.runs):
        words = training_words(out / "data", phase, run)
        worldmodel("train", *words, f"encoder={start}", f"out={out / name}")
        start = out / name / "model.safetensors"
    print(start)


if __name__ == "__main__":
    main()
