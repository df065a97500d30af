"""`worldmodel inspect probes`: what a model's latent knows of robot and object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel.checkpoints.io import load
from worldmodel.data.memory import open_clips
from worldmodel.evaluation.latent_probes import probe_world_model


@dataclass
class Options:
    """Options of `worldmodel inspect probes`."""

    model: str = field(default="default", metadata={"help": "name or safetensors file"})
    data: str = field(default="runs/data/train", metadata={"help": "episodes the probe learns on"})
    val: str = field(default="runs/data/val", metadata={"help": "unseen episodes"})
    count: int = field(default=6000, metadata={"help": "frames the probes learn on"})
    seed: int = field(default=0, metadata={"help": "of the probes and the sample"})
    out: str = field(default="runs/probes", metadata={"help": "folder of summary.json"})


def run(options: Options) -> int:
    """Fit the probes, print and write their errors."""
    world = load(options.model, "cpu")
    size = world.image_size[0]
    clips, unseen = open_clips(options.data, 2, size), open_clips(options.val, 2, size)
    result = probe_world_model(world, clips, unseen, count=options.count, seed=options.seed)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(
        json.dumps({"model": options.model, "seed": options.seed, **result}, indent=2)
    )
    for name, value in result.items():
        print(f"{name:26s} {value:.4f}" if isinstance(value, float) else f"{name:26s} {value}")
    print(out / "summary.json")
    return 0
