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
    "latent_masks": Variant("V-JEPA, larger masks", ("short_scale=0.2", "long_scale=0.7")),
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


def judged_table(result: dict[str, Any]) -> str:
    """Format one row per judged encoder."""
    head = ["frozen features", "seed", "steps x clips", "minutes"]
    head += [f"{name} (of {len(classes)})" for name, classes in LABELS.items()]
    clips, rows = result["test_clips"], []
    order = list(TITLES)
    for row in sorted(
        result["arms"].values(), key=lambda r: (order.index(r["objective"]), r["seed"])
    ):
        counts = [f"{round(row[name] * clips):,}" for name in LABELS]
        length, minutes = "0", "0"
        if row.get("steps"):
            spent = row["processor_s" if row.get("device", "cpu") == "cpu" else "wall_s"]
            length = f"{row.get('step', row['steps']):,} x {row['batch_size']}"
            minutes = f"{spent / 60:.0f}"
        cells = [TITLES[row["objective"]], row["seed"], length, minutes]
        rows.append([*cells, *counts, f"{row['position_px']:.2f} px", f"{row['rank']:.0f}"])
    return markdown_table([*head, "position", "rank"], rows)


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
    fill_blocks(PAGE, {"shapes": judged_table(result), "shape_curve": curve_table(result)})
