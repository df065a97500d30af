"""`worldmodel inspect probes`: decode robot and object poses from encoded and imagined latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from planning.options import Device, Precision
from planning.ranges import between, check_fields

if TYPE_CHECKING:
    from worldmodel.data.memory import MemoryClips
    from worldmodel.models.world_model import WorldModel


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
    rollout_clips: int = field(default=800, metadata=between(0, 1_000_000, "clips"))
    """Number of held-out clips for the error of the decoded object by imagined step (0: none). A
    model without an object head gets one, fitted on hindsight labels of data."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the probes and of the frame sample."""
    links: Literal["inside", "all"] = "inside"
    """Whether links in the data must stay inside the data set, or may lead anywhere (all, for your
    own links)."""
    rlds_fps: float = field(default=15.0, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set, which stores no timestamps; DROID's is 15 Hz."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    cache: str = ""
    """Folder for decoded frames (empty: the default cache folder)."""
    out: str = "runs/probes"
    """Output folder for summary.json."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Fit the probes, then print and write their errors, and those of rollouts by step."""
    from planning.apps.own_encoder import open_world
    from worldmodel.atomic_io import write_json
    from worldmodel.errors import DataError
    from worldmodel.evaluation.latent_probes import probe_world_model

    world = open_world(options.model, options.device, options.precision)
    clips, unseen = (_open(world, options, folder, 2) for folder in (options.data, options.val))
    result = probe_world_model(
        world, clips, unseen, count=options.count, steps=options.fit_steps, seed=options.seed
    )
    for name, value in result.items():
        print(f"{name:26s} {value:.4f}" if isinstance(value, float) else f"{name:26s} {value}")
    if options.rollout_clips:
        try:
            result["rollouts"] = _rollouts(world, options)
        except DataError as error:  # the probes above are valid without it
            print(f"No errors of rollouts: {error}. rollout_clips=0 leaves them out.")
    file = Path(options.out) / "summary.json"
    write_json(file, {"model": options.model, "seed": options.seed, **result})
    print(file)
    return 0


def _open(world: WorldModel, options: Options, folder: str, num_frames: int) -> MemoryClips:
    """Open the clips of a folder as the model sees them."""
    from worldmodel.data.memory import open_clips_for

    return open_clips_for(
        world.observation_spec,
        world.action_spec,
        folder,
        num_frames,
        links=options.links,
        rlds_fps=options.rlds_fps,
        cache=options.cache,
        labels="hindsight" if num_frames == 1 else "none",
    )


def _rollouts(world: WorldModel, options: Options) -> dict[str, object]:
    """Print and return the error of the decoded object by imagined step."""
    from worldmodel.evaluation.rollout_clips import fit_object_head, rollout_clips
    from worldmodel.evaluation.rollout_table import STEPS, rollout_table

    steps = tuple(k for k in STEPS if k <= world.config.predictor.num_frames)
    head = world.object_head or fit_object_head(
        world, _open(world, options, options.data, 1), options.count, steps=options.fit_steps
    )
    unseen = _open(world, options, options.val, max(steps) + 1)
    found = rollout_clips(world, unseen, options.rollout_clips, seed=options.seed)
    table = rollout_table(world, head, found, steps)
    for kind, rows in table.items():
        print(f"\n{kind:6s}  step  imagined   copy  encoded  moved [cm]  yaw  copy [deg]  clips")
        for step, row in rows.items():
            lengths = (row[f"{name}_cm"] for name in ("imagined", "copy", "encoded", "moved"))
            text = "{:10.2f}{:7.2f}{:9.2f}{:7.2f}".format(*lengths)
            turns = "{:9.1f}{:6.1f}".format(row["yaw_deg"], row["yaw_copy_deg"])
            print(f"{step:>12s}{text}{turns}{row['clips']:13d}")
    return {"own_head": world.object_head is not None, **table}
