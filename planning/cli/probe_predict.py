"""`worldmodel probe predict`: the most likely classes of videos and images."""

from __future__ import annotations

from planning.cli.probe_report import print_rejected
from worldmodel.perception.probes.config import PredictOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Print the classes of each file; exit 1 if no file could be read."""
    from worldmodel.perception.probes.use import predict

    found, rejected = predict(options)
    for path, classes in found.items():
        print(path)
        for name, probability in classes:
            print(f"  {probability:.3f}  {name}")
    print_rejected("videos", rejected)
    return 0 if found else 1
