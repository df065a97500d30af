"""The page on masked pretraining beside joint training, written from its figures."""

from __future__ import annotations

from typing import Any


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
        + _order(arms, plain, "object_encoded_m")
        + f". To be judged beside {bars}: "
        + (
            f"{', '.join(arms[n]['title'] for n in seeing)} beat both."
            if seeing
            else "none of them beats both, so none of them sees the object well."
        ),
        "- Moving object in the prediction, no label, best first: "
        + _order(arms, plain, "object_predicted_m")
        + ".",
    ]
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
            + _order(arms, labelled, "object_encoded_m")
            + "; predicted "
            + _order(arms, labelled, "object_predicted_m")
            + "."
        )
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
        "for joint training, in this budget and with these sizes"
        if wins == len(best)
        else f"for joint training in {wins} of {len(best)} of these respects"
    )
    return (
        "The embedded models are trained jointly. Of the arms without the simulator's label, which "
        f"one {found}. That speaks {verdict}.\n\n"
    )


def missing(arms: dict[str, Any], titles: dict[str, str]) -> str:
    """Which of all arms (`titles`) the figures lack."""
    lines = []
    if "joint_tokens" not in arms:
        lines.append(
            "- **Way of training and token layout are not told apart yet**: the joint arm has one "
            "token a frame, the masked ones have 16 smaller ones. The arm that separates them is "
            f"'{titles['joint_tokens']}'."
        )
    if "untrained_frozen" not in arms:
        lines.append(
            "- What pretraining adds to a frozen encoder is not known without "
            f"'{titles['untrained_frozen']}'."
        )
    lacking = [title for name, title in titles.items() if name not in arms]
    if lacking:
        lines.append(f"- Arms not run yet: {'; '.join(lacking)}.")
    return "".join(f"{line}\n" for line in lines)


def page(result: dict[str, Any], titles: dict[str, str], seed: int) -> str:
    """Text of docs/pretraining.md.

    Args:
        result: figures of the finished arms.
        titles: name and title of every arm there is.
        seed: of the reach episodes.
    """
    arms = result["arms"]
    minutes = f"{result['budget_s'] / 60:.0f}"
    return (
        "# Masked pretraining or joint training\n\n"
        "Written by `python benchmarks/pretraining.py`; no figure is typed in by hand. The same "
        f"recorded play, {minutes} processor minutes of an idle core for each way of training "
        "(pretraining and what follows it share them; on a busy machine the same steps take more, "
        "as the table's column says), one run each.\n\n"
        f"{table(arms)}\n\n"
        "Object and finger tip: mean error of small probes on unseen episodes "
        "(`worldmodel inspect probes`). The losses are in each model's own latent, so only their "
        "ratios compare. Reach: success within 4 cm on tuning seeds "
        f"(`worldmodel eval task=reach seed={seed}`), which no reported result uses.\n\n"
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
        f"{missing(arms, titles)}\n"
        "## How it is done\n\n"
        "`worldmodel pretrain`: two kinds of masks a clip, blocks that last the whole clip (8 of "
        "15 % and 2 of 70 % of a frame, aspect ratio 0.75 to 1.5); the encoder sees what is left; "
        "a predictor fills in the hidden tokens; L1 to the layer-normalised tokens of a moving "
        "average of the encoder, which is what is written (V-JEPA 2, arXiv 2506.09985, sec. 2). "
        "An encoder with a convolutional stem gets pictures whose hidden patches are blanked "
        "before the stem, since the stem looks over patch borders. Then "
        "`worldmodel train mode=frozen encoder=FILE` (prediction losses alone) or "
        "`mode=finetune` (all joint terms, the encoder at a lower rate).\n"
    )
