"""`worldmodel anticipate train`: train anticipation probes on EPIC-KITCHENS-100."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from planning.cli.probe_report import print_rejected
from worldmodel.perception.anticipation.config import AnticipateTrainOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Train the heads; print the chosen one's recall on held-out videos and what was rejected."""
    from worldmodel.output_guard import output_guard
    from worldmodel.perception.anticipation.training import train_anticipation
    from worldmodel.training.distributed import process_group

    with process_group(options.device) as ranks:
        with nullcontext() if ranks.rank else output_guard(Path(options.out)), ranks.guarded():
            found = train_anticipation(options, ranks)
        if ranks.rank:
            return 0
    head = found["head"]
    best = max(found["held_out"], key=lambda scores: scores["action"]["mean_class_recall"])
    print(
        f"best of {found['heads']} heads: lr {head['lr']:g}, weight decay "
        f"{head['weight_decay']:g}, trained on {found['trained_on']} clips"
    )
    for target, recall in best.items():
        print(
            f"held out {target:6s} mean class recall@5 {recall['mean_class_recall']:5.1f} % "
            f"({recall['num_clips']} clips, {recall['num_classes']} classes)"
        )
    for name, rejected in found["rejected"].items():
        print_rejected(name, rejected)
    print(f"probe: {options.out}/probe.pt")
    return 0
