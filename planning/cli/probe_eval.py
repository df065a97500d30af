"""`worldmodel probe eval`: accuracy of an attentive probe on labelled videos or images."""

from __future__ import annotations

from planning.cli.probe_report import print_rejected
from worldmodel.perception.probes.config import EvalOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Print the accuracy and what was rejected."""
    from worldmodel.perception.probes.use import eval_probe

    found = eval_probe(options)
    print(f"top-1 {found['top1']:.3f}, top-5 {found['top5']:.3f} of {found['items']} items")
    print_rejected("val", found["rejected"])
    print(f"{options.out}/summary.json")
    return 0
