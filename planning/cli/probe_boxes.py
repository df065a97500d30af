"""`worldmodel probe boxes`: actions of people in given boxes (AVA)."""

from __future__ import annotations

from planning.cli.probe_report import print_rejected
from worldmodel.perception.boxes.config import BoxOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Train or load a head, then print its mean average precision and what was rejected."""
    from worldmodel.perception.boxes.run import run_boxes

    found = run_boxes(options)
    print(
        f"frame mAP {100 * found['mean_average_precision']:.1f} % over "
        f"{len(found['average_precision'])} of {found['classes']} classes, {found['boxes']} boxes, "
        f"{found['keyframes']} keyframes"
    )
    for name, rejected in found["rejected"].items():
        print_rejected(name, rejected)
    print(f"{options.out}/summary.json")
    return 0
