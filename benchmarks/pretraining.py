"""Compare joint training with masked pretraining, on the same data and processor time.

    python benchmarks/pretraining.py                  # most of an hour of one core; resumable
    python benchmarks/pretraining.py budget_s=3600    # an hour for each way of training
    python benchmarks/pretraining.py only=joint       # arms whose name contains a word
    python benchmarks/pretraining.py only=page        # no arm: the page alone

Every arm is a few `worldmodel` commands; finished ones are kept in runs/pretraining and not run
again. Results are written to benchmarks/results/pretraining.json and docs/pretraining.md.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from option_words import read_words
from page_blocks import fill_blocks
from pretraining_page import blocks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULT = HERE / "results" / "pretraining.json"
PAGE = ROOT / "docs" / "pretraining.md"
OUT = Path("runs/pretraining")
EVAL_SEED = 500_000
"""Tuning seed, far from the seeds of reported results."""
SHORT, LONG = 6, 26
"""Steps of two trial runs whose difference gives the cost of a step."""

TOKENS = [
    "patch_size=32",
    "encoder_dim=128",
    "encoder_depth=2",
    "encoder_heads=4",
    "predictor_dim=128",
]
"""Sizes of all arms but the shipped one: 16 tokens of 128 numbers a frame, the same stem."""


@dataclass(frozen=True)
class Stage:
    """A training command and its share of an arm's processor time."""

    name: str
    command: str
    words: tuple[str, ...]
    share: float
    encoder: str = ""
    """Stage that provides the initial encoder."""
    as_long_as: str = ""
    """Stage whose number of steps it copies; empty for as many as its share allows."""


@dataclass(frozen=True)
class Arm:
    """A training method; its last stage gives the model."""

    title: str
    label: bool
    stages: tuple[Stage, ...]


def _train(
    name: str, mode: str, share: float, *words: str, encoder: str = "", as_long_as: str = ""
) -> Stage:
    recipe = "sim_small_unlabelled" if mode == "joint" else f"sim_small_{mode}"
    return Stage(name, "train", (f"recipe={recipe}", *words), share, encoder, as_long_as)


MASKED = Stage("masked", "pretrain", ("recipe=small", "momentum=0.97", "momentum_end=0.995"), 0.5)
"""A moving average fast enough for a few hundred steps; the recipe's is for thousands."""
MASKED_LONG = Stage(
    "masked_long", "pretrain", ("recipe=small", "momentum=0.996", "momentum_end=0.9995"), 1.0
)
"""Twice as long, with a slower moving average nearer to published ones; beyond the budget."""
UNTRAINED = Stage("untrained", "pretrain", ("recipe=small", "steps=0"), 0.0)
PREDICTOR = TOKENS[-1:]
LABEL = "object=2.0"
ARMS = {
    "joint_token": Arm(
        "joint, one token (as shipped)", False, (_train("joint_token", "joint", 1.0),)
    ),
    "masked_frozen": Arm(
        "masked pretraining, then frozen",
        False,
        (MASKED, _train("masked_frozen", "frozen", 0.5, *PREDICTOR, encoder="masked")),
    ),
    "masked_finetune": Arm(
        "masked pretraining, then fine-tuned with the joint terms",
        False,
        (MASKED, _train("masked_finetune", "finetune", 0.5, *PREDICTOR, encoder="masked")),
    ),
    "joint_tokens": Arm(
        "joint, 16 tokens, as many clips as the shipped one",
        False,
        (_train("joint_tokens", "joint", 1.0, *TOKENS, as_long_as="joint_token"),),
    ),
    "untrained_frozen": Arm(
        "untrained encoder, frozen (control)",
        False,
        (UNTRAINED, _train("untrained_frozen", "frozen", 0.5, *PREDICTOR, encoder="untrained")),
    ),
    "masked_long_frozen": Arm(
        "twice the masked pretraining (beyond the budget), then frozen",
        False,
        (
            MASKED_LONG,
            _train("masked_long_frozen", "frozen", 0.5, *PREDICTOR, encoder="masked_long"),
        ),
    ),
    "masked_finetune_label": Arm(
        "masked pretraining, then fine-tuned, with the label",
        True,
        (
            MASKED,
            _train("masked_finetune_label", "finetune", 0.5, *PREDICTOR, LABEL, encoder="masked"),
        ),
    ),
    "joint_token_label": Arm(
        "joint, one token, with the label",
        True,
        (_train("joint_token_label", "joint", 1.0, LABEL),),
    ),
}


def worldmodel(*words: str, spent: Path | None = None) -> float:
    """Run a command on one thread and return its processor seconds.

    With `spent`, seconds are added to those in this file, so that resumed runs are counted
    completely.
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = "import sys; from planning.cli.app import main; sys.exit(main())"
    earlier = float(read(spent)) if spent is not None and spent.is_file() else 0.0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("worldmodel", *words, flush=True)
    try:
        subprocess.run([sys.executable, "-c", code, *words], env=env, check=True, cwd=ROOT)
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = earlier + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if spent is not None:
            spent.parent.mkdir(parents=True, exist_ok=True)
            spent.write_text(json.dumps(total), encoding="utf-8")
    return total


def read(file: Path) -> Any:
    """A JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def stage_words(stage: Stage, options: dict[str, str]) -> list[str]:
    """Return the command line of a stage, without its length and folder."""
    words = [*stage.command.split(), *stage.words, "threads=1"]
    words += [f"data={options['data']}", f"val={options['val']}"]
    if stage.encoder:
        words.append(f"encoder={OUT / stage.encoder}/encoder.safetensors")
    return words


def seconds_per_step(stage: Stage, options: dict[str, str]) -> float:
    """Return the processor seconds per step, from a longer and a shorter trial run."""
    file = OUT / "pace.json"
    known = read(file) if file.is_file() else {}
    key = " ".join((stage.command, *stage.words))
    if key not in known:
        cost = {}
        for steps in (SHORT, LONG):
            folder = OUT / f"trial-{stage.name}"
            words = [*stage_words(stage, options), f"steps={steps}", f"out={folder}"]
            cost[steps] = worldmodel(*words, "eval_every=1000", "save_every=1000")
            shutil.rmtree(folder)
        known[key] = (cost[LONG] - cost[SHORT]) / (LONG - SHORT)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return float(known[key])


def num_steps(stage: Stage, options: dict[str, str]) -> int:
    """Return the steps within a stage's share of the budget, or those of the stage to match."""
    if stage.as_long_as:
        return int(read(OUT / stage.as_long_as / "stage.json")["steps"])
    budget_s = float(options["budget_s"]) * stage.share
    return max(LONG, round(budget_s / seconds_per_step(stage, options)))


def run_stage(stage: Stage, options: dict[str, str]) -> dict[str, Any]:
    """Train a stage once; return its steps, clips, processor seconds and curve."""
    folder = OUT / stage.name
    note = folder / "stage.json"
    if note.is_file():
        return dict(read(note))
    words = stage_words(stage, options)
    steps = 0
    if stage.share:
        steps = num_steps(stage, options)
        every = max(1, steps // 20)
        words += [f"steps={steps}", f"log_every={every}", f"eval_every={5 * every}"]
        if stage.command == "pretrain":
            words += [f"warmup={steps // 20}", f"decay={steps // 4}", "probe_frames=512"]
    cpu_s = worldmodel(*words, "save_every=100", f"out={folder}", spent=folder / "processor_s.json")
    summary = read(folder / "summary.json")
    row = {
        "stage": stage.name,
        "command": " ".join(words),
        "steps": steps,
        "clips": steps * summary["options"]["loop"]["batch_size"],
        "processor_s": round(cpu_s, 1),
        "parameters": summary["parameters"],
        "curve": curve(folder / "metrics.jsonl"),
    }
    note.write_text(json.dumps(row, indent=1), encoding="utf-8")
    return row


def curve(file: Path) -> list[dict[str, float]]:
    """Return the validation rows of a run."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    wanted = ("val_", "probe_", "feature_std", "effective_rank")
    kept = [{k: v for k, v in r.items() if k == "step" or k.startswith(wanted)} for r in rows]
    return [r for r in kept if len(r) > 1]


def measure(name: str, arm: Arm, options: dict[str, str]) -> dict[str, Any]:
    """Train an arm, probe its latent and evaluate planning."""
    stages = [run_stage(stage, options) for stage in arm.stages]
    model = f"model={OUT / arm.stages[-1].name}/model.safetensors"
    where = [f"data={options['data']}", f"val={options['val']}"]
    probes, reach = OUT / name / "probes", OUT / name / "reach"
    if not (probes / "summary.json").is_file():
        worldmodel(
            "inspect", "probes", model, *where, f"count={options['frames']}", f"out={probes}"
        )
    if not (reach / "summary.json").is_file():
        worldmodel(
            "eval",
            "task=reach",
            model,
            f"episodes={options['episodes']}",
            "workers=1",
            f"seed={EVAL_SEED}",
            "baselines=false",
            "pictures=false",
            f"out={reach}",
        )
    found = read(reach / "summary.json")
    keys = ("episodes", "successes", "ci95", "final_error_m", "seconds_per_action")
    return {
        "title": arm.title,
        "simulator_label": arm.label,
        "stages": stages,
        "probes": read(probes / "summary.json"),
        "reach": {k: found[k] for k in keys},
    }


def main() -> None:
    """Run the missing arms, then write the results and the page."""
    defaults = {
        "data": "runs/data/train",
        "val": "runs/data/val",
        "budget_s": "360",
        "episodes": "12",
        "frames": "6000",
        "only": "",
    }
    options = read_words(sys.argv[1:], defaults)
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run the same command to resume"))
    result: dict[str, Any] = {"budget_s": float(options["budget_s"]), "arms": {}}
    if RESULT.is_file() and read(RESULT)["budget_s"] == result["budget_s"]:
        result = read(RESULT)
    titles = {name: arm.title for name, arm in ARMS.items()}
    for name, arm in ARMS.items():
        if options["only"] not in name or name in result["arms"]:
            continue
        result["arms"][name] = measure(name, arm, options)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        fill_blocks(PAGE, blocks(result, titles))
        print(name, json.dumps(result["arms"][name]["probes"]), flush=True)
    fill_blocks(PAGE, blocks(result, titles))
    print(PAGE)


if __name__ == "__main__":
    main()
