"""The tables of docs/pretraining.md about long pretraining on recorded play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page_blocks import markdown_table, wrap
from pretraining_page import centimetres, world_cells

PAGE = Path(__file__).resolve().parent.parent / "docs" / "pretraining.md"
FEATURES = {
    "latent_half": "V-JEPA, halfway",
    "latent": "V-JEPA: masked prediction of latents",
    "pixels_half": "masked prediction of pixels, halfway",
    "pixels": "masked prediction of pixels",
    "untrained": "untrained encoder",
    "raw": "raw pixels, principal components",
    "mean": "the mean of the training clips",
}
QUANTITIES = ("object_m", "tip_m", "object_motion_m", "tip_motion_m")
WAYS = {
    "latent_frozen": "V-JEPA's encoder, frozen",
    "latent_finetune": "V-JEPA's encoder, fine-tuned with the joint terms",
    "joint": "joint from scratch, the same networks",
    "untrained_frozen": "untrained encoder, frozen (control)",
    "pixels_frozen": "pixel prediction's encoder, frozen",
    "pixels_finetune": "pixel prediction's encoder, fine-tuned with the joint terms",
}


def judged_table(result: dict[str, Any]) -> str:
    """Format what attentive probes read of each encoder's features."""
    rows = []
    for name, title in FEATURES.items():
        row = result.get("judged", {}).get(name)
        if row is None:
            continue
        step, run = row.get("step", 0), result["encoders"].get(name.removesuffix("_half"), {})
        seconds = run.get("processor_s", 0) if run.get("steps") == step else 0
        done = f"{step:,} x {run_batch(result)}" if step else "0"
        minutes = f"{seconds / 60:.0f}" if seconds else "" if step else "0"
        errors = [f"{100 * row[key]:.2f} cm" for key in QUANTITIES]
        rows.append([title, done, minutes, *errors, f"{row['rank']:.0f}" if "rank" in row else ""])
    head = ["frozen features", "steps x clips", "minutes", "object", "finger tip"]
    return markdown_table([*head, "object's motion", "finger tip's motion", "rank"], rows)


def run_batch(result: dict[str, Any]) -> int:
    """Return the clips per step of the pretraining runs."""
    return int(next(iter(result["encoders"].values()))["batch_size"])


def curve_table(result: dict[str, Any]) -> str:
    """Format the validations of the runs."""
    head = ["objective", "step", "masked loss, short / long", "the mean's loss", "rank: student"]
    rows = [
        [
            name,
            f"{int(r['step']):,}",
            f"{r['val_masked_short']:.3f} / {r['val_masked_long']:.3f}",
            f"{r['val_mean']:.3f}",
            f"{r['effective_rank_student']:.1f}",
            f"{r['effective_rank']:.1f}",
            centimetres(r["probe_tcp_m"]),
            centimetres(r["probe_object_m"]),
        ]
        for name in ("latent", "pixels")
        for r in result["encoders"].get(name, {}).get("curve", [])
        if r["step"] % 2000 in (0, 1999)
    ]
    return markdown_table([*head, "rank: average", "finger tip, linear", "object, linear"], rows)


def arm_table(result: dict[str, Any]) -> str:
    """Format one row per world model."""
    head = ["way of training", "object encoded", "moving object predicted", "finger tip encoded"]
    head += ["loss true / copied / shuffled", "shuffled over true", "reach", "median error"]
    rows = []
    for name, title in WAYS.items():
        row = result["arms"].get(name)
        if row is None:
            continue
        before = result["encoders"][row["encoder"]].get("processor_s", 0)
        spent = [s for s in (before, row["processor_s"]) if s]
        minutes = " + ".join(f"{s / 60:.1f}" for s in spent)
        rows.append([title, *world_cells(row), minutes, f"{row['steps']:,}"])
    return markdown_table([*head, "s/action", "processor min", "steps"], rows)


def facts(result: dict[str, Any]) -> str:
    """Describe the data."""
    asked, mean = result["options"], result["judged"]["mean"]
    return wrap(
        f"{int(asked['episodes']):,} episodes of play train, {asked['held_out']} others judge: "
        f"{mean['clips']:,} clips, in {mean['clips_moving']} of which the object moves more than "
        "1 cm."
    )


def budget(result: dict[str, Any]) -> str:
    """Describe the processor time of the world models."""
    arms = result["arms"]
    if not arms:
        return ""
    text = (
        f"Each world model has {float(result['options']['after_s']) / 60:.1f} processor minutes "
        "after the pretraining"
    )
    share = arms.get("joint", {}).get("joint")
    if share is not None:
        text += f"; joint training has {100 * share:.0f} % of the pretraining's minutes too"
    probes = next(iter(arms.values()))["probes"]
    return wrap(
        f"{text}. For comparison, object: a decoder of raw pixels "
        f"{centimetres(probes['object_raw_pixels_m'])}, a decoder of the robot's state alone "
        f"{centimetres(probes['object_robot_state_m'])}."
    )


def blocks(result: dict[str, Any]) -> dict[str, str]:
    """Return the blocks of the page."""
    return {
        "play_facts": facts(result),
        "play": judged_table(result),
        "play_curves": curve_table(result),
        "play_budget": budget(result),
        "play_arms": arm_table(result) if result["arms"] else "",
    }
