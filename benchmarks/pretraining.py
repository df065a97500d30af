"""Joint training beside V-JEPA's masked pretraining, on the same data and processor time.

    python benchmarks/pretraining.py                  # most of an hour of one core; resumable
    python benchmarks/pretraining.py budget_s=3600    # an hour for each way of training
    python benchmarks/pretraining.py only=joint       # arms whose name holds a word

Every arm is a few `worldmodel` commands; finished ones are kept in runs/pretraining and not run
again. Figures go to benchmarks/results/pretraining.json; docs/pretraining.md is written from it.
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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULT = HERE / "results" / "pretraining.json"
PAGE = ROOT / "docs" / "pretraining.md"
OUT = Path("runs/pretraining")
EVAL_SEED = 500_000
"""Tuning seeds: far from those that results are reported on."""
SHORT, LONG = 6, 26
"""Steps of the two trial runs whose difference says what a step costs."""

TOKENS = [
    "patch_size=32", "encoder_dim=128", "encoder_depth=2", "encoder_heads=4", "predictor_dim=128",
]  # fmt: skip
"""Sizes of all arms but the shipped one: 16 tokens of 128 numbers a frame, the same stem."""


@dataclass(frozen=True)
class Stage:
    """One training command and its share of an arm's processor time."""

    name: str
    command: str
    words: tuple[str, ...]
    share: float
    encoder: str = ""
    """Stage whose encoder it starts from."""
    as_long_as: str = ""
    """Stage whose number of steps it takes; empty: as many as its share of the time allows."""


@dataclass(frozen=True)
class Arm:
    """One way to train; its last stage gives the model."""

    title: str
    label: bool
    stages: tuple[Stage, ...]


def _train(
    name: str, mode: str, share: float, *words: str, encoder: str = "", as_long_as: str = ""
) -> Stage:
    recipe = "recipe=sim_small_unlabelled"
    return Stage(name, "train", (recipe, f"mode={mode}", *words), share, encoder, as_long_as)


MASKED = Stage("masked", "pretrain", ("recipe=small", "momentum=0.97", "momentum_end=0.995"), 0.5)
"""A moving average fast enough for some hundred steps: the recipe's is for thousands."""
MASKED_LONG = Stage(
    "masked_long", "pretrain", ("recipe=small", "momentum=0.996", "momentum_end=0.9995"), 1.0
)
"""Twice as long, with a slower moving average, nearer to published ones: beyond the budget."""
UNTRAINED = Stage("untrained", "pretrain", ("recipe=small", "steps=0"), 0.0)
PREDICTOR = TOKENS[-1:]
LABEL = "object=2.0"
ARMS = {
    "joint_token": Arm(
        "joint, one token (as shipped)", False, (_train("joint_token", "joint", 1.0),)
    ),
    "masked_frozen": Arm(
        "masked pretraining, then frozen", False,
        (MASKED, _train("masked_frozen", "frozen", 0.5, *PREDICTOR, encoder="masked")),
    ),
    "masked_finetune": Arm(
        "masked pretraining, then fine-tuned with the joint terms", False,
        (MASKED, _train("masked_finetune", "finetune", 0.5, *PREDICTOR, encoder="masked")),
    ),
    "joint_tokens": Arm(
        "joint, 16 tokens, as many clips as the shipped one", False,
        (_train("joint_tokens", "joint", 1.0, *TOKENS, as_long_as="joint_token"),),
    ),
    "untrained_frozen": Arm(
        "untrained encoder, frozen (control)", False,
        (UNTRAINED, _train("untrained_frozen", "frozen", 0.5, *PREDICTOR, encoder="untrained")),
    ),
    "masked_long_frozen": Arm(
        "twice the masked pretraining (beyond the budget), then frozen", False,
        (MASKED_LONG, _train("masked_long_frozen", "frozen", 0.5, *PREDICTOR,
                             encoder="masked_long")),
    ),
    "masked_finetune_label": Arm(
        "masked pretraining, then fine-tuned, with the label", True,
        (MASKED, _train("masked_finetune_label", "finetune", 0.5, *PREDICTOR, LABEL,
                        encoder="masked")),
    ),
    "joint_token_label": Arm(
        "joint, one token, with the label", True,
        (_train("joint_token_label", "joint", 1.0, LABEL),),
    ),
}  # fmt: skip


def worldmodel(*words: str, spent: Path | None = None) -> float:
    """Run a command on one thread; returns its processor seconds.

    With `spent`, seconds are added to those in this file, so that a run that was stopped and
    started again is counted whole.
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
    """The command line of a stage, without its length and folder."""
    words = [*stage.command.split(), *stage.words, "threads=1"]
    words += [f"data={options['data']}", f"val={options['val']}"]
    if stage.encoder:
        words.append(f"encoder={OUT / stage.encoder}/encoder.safetensors")
    return words


def seconds_per_step(stage: Stage, options: dict[str, str]) -> float:
    """Processor seconds of a step: a longer trial run less a shorter one."""
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
    """Steps that a stage's share of the budget pays for, or those of the stage it is to match."""
    if stage.as_long_as:
        return int(read(OUT / stage.as_long_as / "stage.json")["steps"])
    budget_s = float(options["budget_s"]) * stage.share
    return max(LONG, round(budget_s / seconds_per_step(stage, options)))


def run_stage(stage: Stage, options: dict[str, str]) -> dict[str, Any]:
    """Train a stage once; its steps, clips, processor seconds and curve."""
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
        "stage": stage.name, "command": " ".join(words), "steps": steps,
        "clips": steps * summary["options"]["batch_size"], "processor_s": round(cpu_s, 1),
        "parameters": summary["parameters"],
        "curve": curve(folder / "metrics.jsonl"),
    }  # fmt: skip
    note.write_text(json.dumps(row, indent=1), encoding="utf-8")
    return row


def curve(file: Path) -> list[dict[str, float]]:
    """Validation rows of a run."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    wanted = ("val_", "probe_", "feature_std", "effective_rank")
    kept = [{k: v for k, v in r.items() if k == "step" or k.startswith(wanted)} for r in rows]
    return [r for r in kept if len(r) > 1]


def measure(name: str, arm: Arm, options: dict[str, str]) -> dict[str, Any]:
    """Train an arm, probe its latent, let it plan."""
    stages = [run_stage(stage, options) for stage in arm.stages]
    model = f"model={OUT / arm.stages[-1].name}/model.safetensors"
    where = [f"data={options['data']}", f"val={options['val']}"]
    probes, reach = OUT / name / "probes", OUT / name / "reach"
    if not (probes / "summary.json").is_file():
        worldmodel("inspect", "probes", model, *where, f"count={options['frames']}",
                   f"out={probes}")  # fmt: skip
    if not (reach / "summary.json").is_file():
        worldmodel("eval", "task=reach", model, f"episodes={options['episodes']}", "workers=1",
                   f"seed={EVAL_SEED}", "baselines=false", "pictures=false",
                   f"out={reach}")  # fmt: skip
    found = read(reach / "summary.json")
    keys = ("episodes", "successes", "ci95", "final_error_m", "seconds_per_action")
    return {
        "title": arm.title, "simulator_label": arm.label, "stages": stages,
        "probes": read(probes / "summary.json"), "reach": {k: found[k] for k in keys},
    }  # fmt: skip


def centimetres(value: float) -> str:
    """Metres, printed as centimetres."""
    return f"{100 * value:.1f} cm"


def table(arms: dict[str, Any]) -> str:
    """One row an arm."""
    lines = [
        "| | object encoded | moving object predicted | finger tip encoded | loss true / copied / "
        "shuffled | shuffled over true | reach | median error | s/action | processor min | clips |",
        "|---" * 11 + "|",
    ]
    for row in arms.values():
        probe, reach = row["probes"], row["reach"]
        minutes = " + ".join(f"{s['processor_s'] / 60:.1f}" for s in row["stages"] if s["steps"])
        clips = " + ".join(f"{s['clips']:,}" for s in row["stages"] if s["steps"])
        losses = " / ".join(f"{probe['loss_' + n]:.3f}" for n in ("true", "copy", "shuffled"))
        lines.append(
            f"| {row['title']} | {centimetres(probe['object_encoded_m'])} "
            f"| {centimetres(probe['object_predicted_m'])} "
            f"| {centimetres(probe['tcp_encoded_m'])} | {losses} "
            f"| {probe['loss_shuffled'] / probe['loss_true']:.2f} "
            f"| {reach['successes']}/{reach['episodes']} "
            f"| {centimetres(reach['final_error_m']['median'])} "
            f"| {reach['seconds_per_action']['median']:.2f} | {minutes} | {clips} |"
        )
    return "\n".join(lines)


def curve_table(arms: dict[str, Any]) -> str:
    """How the pretraining runs went."""
    runs = {s["stage"]: s for a in arms.values() for s in a["stages"]}
    lines = [
        "| run | step | masked loss, short / long | loss of predicting the mean | feature spread | "
        "effective rank (of 128) | finger tip, linear probe | object, linear probe |",
        "|---" * 8 + "|",
    ]
    for name in ("masked", "masked_long"):
        lines += [
            f"| {name} | {r['step']} | {r['val_masked_short']:.3f} / {r['val_masked_long']:.3f} "
            f"| {r['val_mean']:.3f} | {r['feature_std']:.3f} | {r['effective_rank']:.1f} "
            f"| {centimetres(r['probe_tcp_m'])} | {centimetres(r['probe_object_m'])} |"
            for r in runs.get(name, {"curve": []})["curve"]
        ]
    return "\n".join(lines)


def collapse(arms: dict[str, Any]) -> list[str]:
    """A sentence for each pretraining run: how rank and probes moved."""
    runs = {s["stage"]: s for a in arms.values() for s in a["stages"]}
    out = []
    for name in ("masked", "masked_long"):
        if name not in runs:
            continue
        first, last = runs[name]["curve"][0], runs[name]["curve"][-1]
        fell = last["effective_rank"] < 0.5 * first["effective_rank"]
        out.append(
            f"- Pretraining run `{name}` ({runs[name]['steps']} steps): effective rank "
            f"{first['effective_rank']:.1f} before, {last['effective_rank']:.1f} after"
            + (" (most directions are gone: partial collapse)" if fell else "")
            + f"; object by a linear probe {centimetres(first['probe_object_m'])} before, "
            f"{centimetres(last['probe_object_m'])} after, finger tip "
            f"{centimetres(first['probe_tcp_m'])} before, {centimetres(last['probe_tcp_m'])} after."
        )
    return out


def _order(arms: dict[str, Any], names: list[str], key: str) -> str:
    ranked = sorted(names, key=lambda n: arms[n]["probes"][key])
    return ", ".join(f"{arms[n]['title']} ({centimetres(arms[n]['probes'][key])})" for n in ranked)


def _against(arms: dict[str, Any], one: str, other: str, key: str) -> str:
    a, b = arms[one]["probes"][key], arms[other]["probes"][key]
    word = "better than" if a < b else "worse than" if a > b else "the same as"
    return f"{centimetres(a)}, {word} {centimetres(b)}"


def reading(arms: dict[str, Any]) -> str:
    """What the numbers say, in sentences that follow the numbers."""
    plain = [n for n in arms if not arms[n]["simulator_label"]]
    any_arm = next(iter(arms.values()))["probes"]
    blind = {
        "a decoder of raw pixels": any_arm["object_raw_pixels_m"],
        "one of the robot's state alone": any_arm["object_robot_state_m"],
    }
    bars = " and ".join(f"{name} ({centimetres(v)})" for name, v in blind.items())
    bar = min(blind.values())
    seeing = [n for n in plain if arms[n]["probes"]["object_encoded_m"] < bar]
    lines = [
        "- Object in the encoder, no label, best first: "
        + _order(arms, plain, "object_encoded_m") + f". To be judged beside {bars}: "
        + (f"{', '.join(arms[n]['title'] for n in seeing)} beat both."
           if seeing else "none of them beats both, so none of them sees the object well."),
        "- Moving object in the prediction, no label, best first: "
        + _order(arms, plain, "object_predicted_m") + ".",
    ]  # fmt: skip
    if {"masked_frozen", "untrained_frozen"} <= arms.keys():
        pair = ("masked_frozen", "untrained_frozen")
        lines.append(
            "- What pretraining itself gives, frozen against an untrained frozen encoder: object "
            f"{_against(arms, *pair, 'object_encoded_m')}; finger tip "
            f"{_against(arms, *pair, 'tcp_encoded_m')}."
        )
    if {"masked_finetune", "joint_tokens"} <= arms.keys():
        pair = ("masked_finetune", "joint_tokens")
        lines.append(
            "- Fine-tuned after pretraining against joint from the start, same sizes: object "
            f"{_against(arms, *pair, 'object_encoded_m')}; finger tip "
            f"{_against(arms, *pair, 'tcp_encoded_m')}."
        )
    lines += collapse(arms)
    reach = sorted(plain, key=lambda n: -arms[n]["reach"]["successes"])
    lines.append(
        "- Reaching on tuning seeds: "
        + ", ".join(
            f"{arms[n]['title']} {arms[n]['reach']['successes']}/{arms[n]['reach']['episodes']}"
            for n in reach
        )
        + "."
    )
    labelled = [n for n in arms if arms[n]["simulator_label"]]
    if labelled:
        lines.append(
            "- With the simulator's label: object encoded "
            + _order(arms, labelled, "object_encoded_m") + "; predicted "
            + _order(arms, labelled, "object_predicted_m") + "."
        )  # fmt: skip
    return "\n".join(lines)


def answer(arms: dict[str, Any]) -> str:
    """Which way the embedded model is trained, and whether these figures bear it out."""
    plain = {n: a for n, a in arms.items() if not a["simulator_label"]}
    best = {
        "reaches most often": max(plain, key=lambda n: plain[n]["reach"]["successes"]),
        "predicts a moving object best": min(
            plain, key=lambda n: plain[n]["probes"]["object_predicted_m"]
        ),
        "depends most on its actions": max(
            plain,
            key=lambda n: plain[n]["probes"]["loss_shuffled"] / plain[n]["probes"]["loss_true"],
        ),
    }
    found = "; ".join(f"{what}: {plain[n]['title']}" for what, n in best.items())
    wins = sum(n.startswith("joint") for n in best.values())
    verdict = (
        "for joint training, in this budget and with these sizes" if wins == len(best)
        else f"for joint training in {wins} of {len(best)} of these respects"
    )  # fmt: skip
    return (
        "The embedded models are trained jointly. Of the arms without the simulator's label, which "
        f"one {found}. That speaks {verdict}.\n\n"
    )


def missing(arms: dict[str, Any]) -> str:
    """Which arms the figures lack."""
    lines = []
    if "joint_tokens" not in arms:
        lines.append(
            "- **Way of training and token layout are not told apart yet**: the joint arm has one "
            "token a frame, the masked ones have 16 smaller ones. The arm that separates them is "
            f"'{ARMS['joint_tokens'].title}'."
        )
    if "untrained_frozen" not in arms:
        lines.append(
            "- What pretraining adds to a frozen encoder is not known without "
            f"'{ARMS['untrained_frozen'].title}'."
        )
    titles = [arm.title for name, arm in ARMS.items() if name not in arms]
    if titles:
        lines.append(f"- Arms not run yet: {'; '.join(titles)}.")
    return "".join(f"{line}\n" for line in lines)


def write_page(result: dict[str, Any]) -> None:
    """Write docs/pretraining.md from the figures."""
    arms = result["arms"]
    minutes = f"{result['budget_s'] / 60:.0f}"
    PAGE.write_text(
        "# Masked pretraining or joint training\n\n"
        "Written by `python benchmarks/pretraining.py`; no figure is typed in by hand. The same "
        f"recorded play, {minutes} processor minutes of an idle core for each way of training "
        "(pretraining and what follows it share them; on a busy machine the same steps take more, "
        "as the table's column says), one run each.\n\n"
        f"{table(arms)}\n\n"
        "Object and finger tip: mean error of small probes on unseen episodes "
        "(`worldmodel inspect probes`). The losses are in each model's own latent, so only their "
        "ratios compare. Reach: success within 4 cm on tuning seeds "
        f"(`worldmodel eval task=reach seed={EVAL_SEED}`), which no reported result uses.\n\n"
        f"## What it shows\n\n{answer(arms)}{reading(arms)}\n\n"
        f"## How the pretraining went\n\n{curve_table(arms)}\n\n"
        "A masked loss above that of predicting every position's mean says that the predictor has "
        "not yet got beyond the mean; spread near 0 would be collapse.\n\n"
        "## Limits\n\n"
        "- The budget is small: published pretraining takes clips by the hundred million. The "
        "page says what some minutes on one core give, not which is better in the end: "
        "`bash benchmarks/gpu.sh` runs the longer comparison on a CUDA machine.\n"
        "- Processor minutes and clips are as the table says, near each other but not equal.\n"
        "- The pretraining's settings were not searched. Its moving average is faster than "
        "published ones, to suit some hundred steps, and may be what loses rank.\n"
        "- One seed an arm, a dozen reaching episodes: small differences mean nothing.\n"
        "- `mode=frozen` encodes every frame anew at each step; stored features would give it "
        "more steps for its time.\n"
        "- Masks on a 4 x 4 grid are coarse; the shipped model has one token a frame, which "
        "cannot be masked at all and so can only be trained jointly.\n"
        f"{missing(arms)}\n"
        "## How it is done\n\n"
        "`worldmodel pretrain`: two kinds of masks a clip, blocks that last the whole clip (8 of "
        "15 % and 2 of 70 % of a frame, aspect ratio 0.75 to 1.5); the encoder sees what is left; "
        "a predictor fills in the hidden tokens; L1 to the layer-normalised tokens of a moving "
        "average of the encoder, which is what is written (V-JEPA 2, arXiv 2506.09985, sec. 2). "
        "An encoder with a convolutional stem gets pictures whose hidden patches are blanked "
        "before the stem, since the stem looks over patch borders. Then "
        "`worldmodel train mode=frozen encoder=FILE` (prediction losses alone) or "
        "`mode=finetune` (all joint terms, the encoder at a lower rate).\n",
        encoding="utf-8",
    )


def main() -> None:
    """Run what is missing, then write the figures and the page."""
    options = {
        "data": "runs/data/train", "val": "runs/data/val", "budget_s": "360", "episodes": "12",
        "frames": "6000", "only": "",
    }  # fmt: skip
    for word in sys.argv[1:]:
        key, _, value = word.partition("=")
        if key not in options:
            raise SystemExit(f"unknown option {key!r}; known: {', '.join(options)}")
        options[key] = value
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; start again to go on"))
    result: dict[str, Any] = {"budget_s": float(options["budget_s"]), "arms": {}}
    if RESULT.is_file() and read(RESULT)["budget_s"] == result["budget_s"]:
        result = read(RESULT)
    for name, arm in ARMS.items():
        if options["only"] not in name or name in result["arms"]:
            continue
        result["arms"][name] = measure(name, arm, options)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_page(result)
        print(name, json.dumps(result["arms"][name]["probes"]), flush=True)
    write_page(result)
    print(PAGE)


if __name__ == "__main__":
    main()
