"""`worldmodel probe train`: train attentive probes on a frozen encoder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from planning.cli.probe_report import print_rejected
from worldmodel.perception.probes.config import TrainOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Train the heads; print the chosen one's accuracy and what was rejected."""
    from worldmodel.output_guard import output_guard
    from worldmodel.perception.probes.run import train_probe
    from worldmodel.training.distributed import process_group

    with process_group(options.device) as ranks:
        with nullcontext() if ranks.rank else output_guard(Path(options.out)), ranks.guarded():
            found = train_probe(options, ranks)
        if ranks.rank:
            return 0
    head = found["head"]
    print(
        f"best of {found['heads']} heads: lr {head['lr']:g}, weight decay "
        f"{head['weight_decay']:g}, chosen on {found['chosen_on']}"
    )
    print(
        f"val: top-1 {found['val_top1']:.3f}, top-5 {found['val_top5']:.3f} of "
        f"{found['val_items']} items; trained on {found['trained_on']}"
    )
    for name, rejected in found["rejected"].items():
        print_rejected(name, rejected)
    print(f"probe: {options.out}/probe.safetensors, curves: {options.out}/curves.png")
    return 0
