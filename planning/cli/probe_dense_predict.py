"""`worldmodel probe dense-predict`: depth or classes of the pixels of images."""

from __future__ import annotations

from planning.cli.probe_report import print_rejected
from worldmodel.perception.dense.config import DensePredictOptions as Options

__all__ = ["Options", "run"]
SHOWN = 5
"""Number of classes to print for an image."""


def run(options: Options) -> int:
    """Write maps and print what they tell in short; exit 1 if no image could be read."""
    from worldmodel.perception.dense.use import predict_dense

    found, rejected = predict_dense(options)
    for path, facts in found.items():
        classes = facts.get("classes")
        if classes is None:
            print(
                f"{path}: {facts['nearest_m']:.2f} to {facts['farthest_m']:.2f} m, median "
                f"{facts['median_m']:.2f} m"
            )
            continue
        most = sorted(classes.items(), key=lambda item: -item[1])[:SHOWN]
        print(f"{path}: " + ", ".join(f"class {name} {share:.0%}" for name, share in most))
    print_rejected("images", rejected)
    print(f"maps, pictures and predictions.json: {options.out}")
    return 0 if found else 1
