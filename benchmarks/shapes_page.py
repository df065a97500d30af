"""The tables of docs/pretraining.md about made clips, and the runs that they tell of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page_blocks import fill_blocks, markdown_table

from worldmodel.data.shape_options import LABELS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "pretraining.md"


@dataclass(frozen=True)
class Variant:
    """A run that differs from the recipe."""

    title: str
    words: tuple[str, ...]


VARIANTS = {
    "latent_large_batch": Variant(
        "V-JEPA, 128 clips a step, lr x 2",
        ("batch_size=128", "lr=2e-3", "steps=7000", "warmup=560", "decay=1750"),
    ),
    "pixels_large_batch": Variant(
        "pixels, 128 clips a step, lr x 2",
        ("objective=pixels", "batch_size=128", "lr=2e-3", "steps=7000", "warmup=560", "decay=1750"),
    ),
    "latent_lr": Variant("V-JEPA, lr x 2", ("lr=2e-3",)),
    "latent_dense": Variant(
        "V-JEPA 2.1: three levels, loss on visible tokens too", ("levels=3", "context_loss=0.5")
    ),
    "latent_predictor": Variant(
        "V-JEPA, larger predictor (96 x 4)",
        ("predictor_dim=96", "predictor_depth=4", "predictor_heads=3"),
    ),
    "pixels_predictor": Variant(
        "pixels, larger predictor (96 x 4)",
        ("objective=pixels", "predictor_dim=96", "predictor_depth=4", "predictor_heads=3"),
    ),
    "latent_masks": Variant("V-JEPA, larger masks", ("short_scale=0.2", "long_scale=0.7")),
    "latent_median": Variant(
        "V-JEPA, contexts cut to the median, not the shortest", ("cut_to=median",)
    ),
    "latent_target_blocks": Variant("V-JEPA, targets averaged over blocks", ("target_blocks=3",)),
    "latent_sigreg": Variant("V-JEPA with SIGReg, weight 0.1", ("sigreg=0.1", "cuda_graph=false")),
    "latent_frames": Variant("V-JEPA, clips of 8 frames", ("num_frames=8", "store=")),
    "pixels_frames": Variant(
        "pixels, clips of 8 frames", ("objective=pixels", "num_frames=8", "store=")
    ),
    "latent_levels": Variant("V-JEPA, targets of three blocks", ("levels=3",)),
    "latent_small_predictor": Variant(
        "V-JEPA, smaller predictor (48 x 1)", ("predictor_dim=48", "predictor_depth=1")
    ),
    "latent_tiny_predictor": Variant(
        "V-JEPA, tiny predictor (32 x 1)", ("predictor_dim=32", "predictor_depth=1")
    ),
    "latent_small_dense": Variant(
        "V-JEPA, smaller predictor (48 x 1), loss on visible tokens too",
        ("predictor_dim=48", "predictor_depth=1", "context_loss=0.5"),
    ),
    "pixels_small_predictor": Variant(
        "pixels, smaller predictor (48 x 1)",
        ("objective=pixels", "predictor_dim=48", "predictor_depth=1"),
    ),
    "latent_average": Variant("V-JEPA, slower average", ("momentum=0.996", "momentum_end=1.0")),
    "latent_long": Variant(
        "V-JEPA, three times as long",
        ("steps=42000", "warmup=3360", "decay=10500", "eval_every=3000"),
    ),
    "pixels_long": Variant(
        "pixels, three times as long",
        ("objective=pixels", "steps=42000", "warmup=3360", "decay=10500", "eval_every=3000"),
    ),
}
"""Runs that differ from the recipe, the most telling first."""
TITLES = {
    "latent": "V-JEPA: masked prediction of latents",
    "pixels": "masked prediction of pixels",
    "labels": "supervised (the bound)",
    **{name: variant.title for name, variant in VARIANTS.items()},
    "untrained": "untrained encoder",
    "raw": "raw pixels, principal components",
}


def _arms(result: dict[str, Any]) -> list[dict[str, Any]]:
    order = list(TITLES)
    return sorted(
        result["arms"].values(), key=lambda arm: (order.index(arm["objective"]), arm["seed"])
    )


def _figures(row: dict[str, Any], clips: int) -> list[str]:
    counts = [f"{round(row[name] * clips):,}" for name in LABELS]
    return [*counts, f"{row['position_px']:.2f} px"]


LABEL_HEADS = [*(f"{name} (of {len(classes)})" for name, classes in LABELS.items()), "position"]


def judged_table(result: dict[str, Any]) -> str:
    """Format one row for each encoder and each length at which it was judged."""
    rows = []
    for arm in _arms(result):
        for row in arm["course"]:
            length, minutes = "0", "0"
            if arm["steps"]:
                length = f"{row['step']:,} x {arm['batch_size']}"
                spent = arm["processor_s" if arm["device"] == "cpu" else "wall_s"]
                minutes = f"{spent / 60:.0f}" if row["step"] == arm["steps"] else ""
            cells = [TITLES[arm["objective"]], arm["seed"], length, minutes]
            rows.append([*cells, *_figures(row, result["test_clips"]), f"{row['rank']:.0f}"])
    head = ["frozen features", "seed", "steps x clips", "minutes"]
    return markdown_table([*head, *LABEL_HEADS, "rank"], rows)


def scaling_table(result: dict[str, Any]) -> str:
    """Format the probes of both scalings of each encoder at the end of its training."""
    rows = []
    for arm in _arms(result):
        for row in arm["course"][-1].get("both_scalings", []):
            cells = [TITLES[arm["objective"]], arm["seed"], row["scaling"]]
            cells += [f"{row['held_out_right']:.1%}", *_figures(row, result["test_clips"])]
            rows.append(cells)
    head = ["frozen features", "seed", "scaled by", "right, held out"]
    return markdown_table([*head, *LABEL_HEADS], rows)


def _seeds(result: dict[str, Any], objective: str) -> dict[int, dict[str, Any]]:
    """Return the complete runs of an objective by seed."""
    found = {arm["seed"]: arm for arm in _arms(result) if arm["objective"] == objective}
    return {seed: arm for seed, arm in found.items() if arm["step"] == arm["steps"]}


def _spread(values: list[float], digits: int) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def seed_table(result: dict[str, Any]) -> str:
    """Format mean and range over the seeds of each objective that has several complete runs."""
    rows = []
    for objective in TITLES:
        arms = _seeds(result, objective)
        if len(arms) < 2:
            continue
        cells = [TITLES[objective], ", ".join(map(str, arms))]
        for name in LABELS:
            counts = [round(arm[name] * result["test_clips"]) for arm in arms.values()]
            cells.append(_spread(counts, 0))
        rows.append([*cells, _spread([arm["position_px"] for arm in arms.values()], 2) + " px"])
    return markdown_table(["frozen features", "seeds", *LABEL_HEADS], rows) if rows else ""


def _first_as_good(arm: dict[str, Any], name: str, wanted: float) -> str:
    """Return the first judged length of a run whose features tell a label as well as wanted."""
    sign = -1 if name == "position_px" else 1
    for row in arm["course"]:
        if sign * row[name] >= sign * wanted:
            return f"{row['step']:,}"
    return "never"


def lead_table(result: dict[str, Any]) -> str:
    """Format how long V-JEPA trains until it tells each label as well as pixels do at their end.

    Only seeds whose run of V-JEPA was judged at several lengths can tell it.
    """
    names = [*LABELS, "position_px"]
    pixels = _seeds(result, "pixels")
    rows = []
    for seed, arm in _seeds(result, "latent").items():
        if seed in pixels and len(arm["course"]) > 1:
            first = [_first_as_good(arm, name, pixels[seed][name]) for name in names]
            rows.append([seed, f"{pixels[seed]['steps']:,}", *first])
    head = ["seed", "steps of pixel prediction", *LABELS, "position"]
    return markdown_table(head, rows) if rows else ""


def curve_table(result: dict[str, Any]) -> str:
    """Format the validations of the first run of V-JEPA."""
    head = ["step", "masked loss", "the mean's loss", "rank: student", "rank: average"]
    head += ["colour's share", *(f"{name}, linear" for name in LABELS)]
    rows = [
        [
            f"{int(r['step']):,}",
            f"{r['val_loss']:.3f}",
            f"{r['val_mean']:.3f}",
            f"{r['effective_rank_student']:.1f}",
            f"{r['effective_rank']:.1f}",
            f"{r['colour_share']:.2f}",
            *(f"{100 * r['probe_' + name]:.0f} %" for name in LABELS),
        ]
        for r in result["arms"].get("latent-0", {"curve": []})["curve"]
    ]
    return markdown_table(head, rows)


def write_page(result: dict[str, Any]) -> None:
    """Fill the blocks of the page."""
    tables = {
        "shapes": judged_table,
        "shape_seeds": seed_table,
        "shape_lead": lead_table,
        "shape_scalings": scaling_table,
        "shape_curve": curve_table,
    }
    fill_blocks(PAGE, {name: table(result) for name, table in tables.items()})
