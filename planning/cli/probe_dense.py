"""`worldmodel probe dense`: read depth or classes of pixels from a frozen encoder's tokens."""

from __future__ import annotations

from pathlib import Path

from planning.cli.probe_report import print_rejected
from worldmodel.perception.dense.config import DenseOptions as Options

__all__ = ["Options", "run"]
UNITS = {"mean_iou": "mean IoU", "pixel_accuracy": "pixels right", "rmse_m": "RMSE [m]"}


def run(options: Options) -> int:
    """Train the heads; print the chosen one's scores beside those of a guess without the image."""
    from worldmodel.output_guard import output_guard
    from worldmodel.perception.dense.run import train_dense

    with output_guard(Path(options.out)):
        found = train_dense(options)
    head = found["head"]
    print(
        f"best of {found['heads']} heads: lr {head['lr']:g}, weight decay "
        f"{head['weight_decay']:g}, chosen on {found['chosen_on']} images"
    )
    for name, value in found["val"].items():
        print(
            f"val: {UNITS.get(name, name.replace('_', ' '))} {value:.3f} on {found['val_items']} "
            f"images, without looking {found['without_image'][name]:.3f}"
        )
    for name, rejected in found["rejected"].items():
        print_rejected(name, rejected)
    print(f"head: {options.out}/head.safetensors, pictures: {options.out}/pictures")
    return 0
