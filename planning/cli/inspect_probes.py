"""`worldmodel inspect probes`: decode robot and object positions from a model's latent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from planning.ranges import between, check_fields


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel inspect probes`."""

    model: str = "default"
    """World model: an embedded or published name, or a file."""
    data: str = "runs/data/train"
    """Folder of the episodes to fit the probes on."""
    val: str = "runs/data/val"
    """Folder of unseen episodes to evaluate the probes on."""
    count: int = field(default=6000, metadata=between(2, 10_000_000, "frames"))
    """Number of frames to fit the probes on."""
    fit_steps: int = field(default=1500, metadata=between(1, 1_000_000))
    """Number of optimiser steps per probe."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the probes and of the frame sample."""
    cache: str = ""
    """Folder for decoded frames (empty: the default cache folder)."""
    out: str = "runs/probes"
    """Output folder for summary.json."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Fit the probes, then print and write their errors."""
    from worldmodel import load_world_model
    from worldmodel.atomic_io import write_json
    from worldmodel.data.memory import open_clips
    from worldmodel.evaluation.latent_probes import probe_world_model

    world = load_world_model(options.model, "cpu")
    spec = world.observation_spec
    clips, unseen = (
        open_clips(
            folder,
            2,
            spec.image_size[0],
            transform=spec.transform,
            camera=spec.cameras[0],
            fps=1 / world.action_spec.period_s,
            cache=options.cache,
        )
        for folder in (options.data, options.val)
    )
    result = probe_world_model(
        world, clips, unseen, count=options.count, steps=options.fit_steps, seed=options.seed
    )
    file = Path(options.out) / "summary.json"
    write_json(file, {"model": options.model, "seed": options.seed, **result})
    for name, value in result.items():
        print(f"{name:26s} {value:.4f}" if isinstance(value, float) else f"{name:26s} {value}")
    print(file)
    return 0
