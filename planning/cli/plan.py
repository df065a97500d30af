"""`worldmodel plan`: an action from two pictures on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from planning.cli.eval import Options as EvalOptions
from planning.cli.eval import planner_config, samples_at_once
from planning.energy import energy
from planning.errors import PlanError
from planning.planner import Planner
from planning.solvers.registry import NAMES
from worldmodel.checkpoints.io import load

START = [0.5, 0.0, 0.28, 3.1416, 0.0, -0.7854, 0.0]


@dataclass
class Options:
    """Options of `worldmodel plan`."""

    image: str = field(default="", metadata={"help": "picture of now"})
    goal: str = field(default="", metadata={"help": "picture of what is wanted"})
    model: str = field(default="default", metadata={"help": "embedded name or file"})
    state: list[float] = field(
        default_factory=lambda: list(START),
        metadata={"help": "robot state: flange x y z [m], Euler xyz [rad], closedness"},
    )
    horizon: int = field(default=1, metadata={"help": "actions imagined ahead"})
    optimiser: str = field(default="cem", metadata={"help": ", ".join(NAMES)})
    norm: str = field(default="l1", metadata={"help": "energy: l1 or l2"})
    over: str = field(default="final", metadata={"help": "energy of the final step, or sum"})
    deadline_s: float = field(default=0.0, metadata={"help": "of each search (0: none)"})
    samples: int = field(default=150, metadata={"help": "plans imagined in an iteration"})
    iterations: int = field(default=4, metadata={"help": "of the optimiser"})
    seed: int = field(default=0, metadata={"help": "of the search"})
    out: str = field(default="runs/plan", metadata={"help": "folder of summary.json"})


def read_picture(path: str, size: tuple[int, int]) -> torch.Tensor:
    """Read a picture as uint8 [1, H, W, 3], resized to the model's input.

    Raises:
        PlanError: no file, or it is no picture.
    """
    try:
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize(size[::-1], Image.Resampling.BOX)
    except (OSError, ValueError) as error:
        raise PlanError(
            f"{path!r} cannot be read as a picture ({error}): give image=FILE goal=FILE"
        ) from error
    return torch.from_numpy(np.array(resized))[None]


def run(options: Options) -> int:
    """Plan once; print and write the actions and their energies."""
    world = load(options.model)
    now = world.encode(read_picture(options.image, world.image_size))
    goal = world.encode(read_picture(options.goal, world.image_size))
    if len(options.state) != 7:
        raise PlanError(f"state has {len(options.state)} numbers; wanted 7: x y z, Euler, gripper")
    settings = EvalOptions(
        horizon=options.horizon,
        samples=options.samples,
        iterations=options.iterations,
        optimiser=options.optimiser,
        norm=options.norm,
        over=options.over,
        deadline_s=options.deadline_s,
        elites=min(EvalOptions.elites, options.samples),
    )
    chunk = samples_at_once(world, settings)
    config = planner_config(settings, world.convention.gripper, chunk, str(now.device))
    planner = Planner(world, config)
    state = torch.tensor([options.state], device=now.device)
    plan = planner.plan(now, state, goal, torch.Generator().manual_seed(options.seed))
    result = {
        "actions": [[round(float(x), 5) for x in action] for action in plan.actions_KA],
        "energy_now": float(energy(now, goal)[0]),
        "energy_imagined": plan.energy,
        "spread_m": plan.spread_m,
        "iterations": plan.iterations,
        "step_seconds": world.convention.step_seconds,
        "model": options.model,
    }
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0
