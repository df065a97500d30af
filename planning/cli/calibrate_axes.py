"""`worldmodel calibrate axes`: how the model's axes lie to the arm's (V-JEPA 2, appendix B.4)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from planning.apps.workcell import (
    Workcell,
    WorkcellOptions,
    _text,
    open_workcell,
    require_motion_confirmation,
    safe_arm,
)
from planning.cli.eval import Options as EvalOptions
from planning.cli.eval import planner_config
from planning.errors import DriveError
from planning.planner import Planner
from planning.solvers.cem import CEM
from robot.calibrate import Axes, draw_moves, solve_axes
from robot.safety.layer import SafeArm
from worldmodel.checkpoints.io import load
from worldmodel.data.transforms import Preprocess

Array = NDArray[np.float64]


@dataclass(kw_only=True)
class Options(WorkcellOptions):
    """Options of `worldmodel calibrate axes`."""

    model: str = _text("default", "embedded or published name, or a file")
    device: str = _text("auto", "auto, cpu or cuda")
    moves: int = _text(12, "how many")
    length_m: float = _text(0.05, "of each")
    reach_m: float = _text(0.08, "furthest from where the arm stands now")
    max_condition: float = _text(3.0, "of the moves; above it they are refused")
    max_residual: float = _text(0.5, "share of the moves that may stay unexplained")
    transform: str = _text("droid", "camera frame to model input: droid, published or squeeze")
    turn_deg: float = _text(0.0, "simulated: turn every command by this, to see it found again")
    out: str = _text("runs/axes", "folder of axes.json and moves.json")


def infer(planner: Planner, before: Any, after: Any, state: Array, seed: int) -> Array:
    """The x-y move [2, m] that the model takes two pictures for."""
    state_1S = torch.tensor(state[None], dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    plan = planner.plan(before, state_1S.to(before.device), after, generator)
    return plan.actions_KA[:, :2].sum(0).cpu().numpy().astype(np.float64)


def collect_moves(
    options: Options, workcell: Workcell, arm: SafeArm, encode: Any, planner: Planner
) -> tuple[Array, Array]:
    """Make safe random moves; returns what the arm did and what the model saw [N, 2, m] each."""
    turn = np.radians(options.turn_deg)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    rng, camera = np.random.default_rng(options.seed), workcell.checked()
    done, seen = [], []
    wanted = draw_moves(rng, options.moves, options.length_m, options.reach_m)
    for index, move in enumerate(tqdm(wanted, desc="moves")):
        before, state = encode(camera.read().image), arm.state().state
        sent = arm.send([*(turned @ move), 0, 0, 0, 0, 0])
        if sent.refused:
            raise DriveError(
                f"Move {index} was refused ({sent.reason_text}): start in the "
                "middle of the workcell, or lower length_m"
            )
        moved = (arm.state().state - state)[:2]
        # a test turn hides in the arm: what was asked for is what a turned arm would report
        done.append(turned.T @ moved)
        seen.append(infer(planner, before, encode(camera.read().image), state, index))
    return np.array(done), np.array(seen)


def calibrate(options: Options, workcell: Workcell) -> Axes:
    """Move, infer, solve and write `axes.json`."""
    world = load(options.model, options.device)
    transform = Preprocess(options.transform, world.image_size)  # type: ignore[arg-type]
    config = planner_config(EvalOptions(), world.convention.gripper)
    bounds = replace(config.bounds, gripper_free=False, low_m=None, high_m=None)
    search = CEM(num_samples=200, iterations=6, num_elites=12)
    config = replace(config, optimiser=search, bounds=bounds, gate_m=0.0, stretch=1)
    planner = Planner(world, config)

    def encode(image: Any) -> Any:
        return world.encode(transform(torch.as_tensor(np.ascontiguousarray(image)))[None])

    workcell.begin(options.seed)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "safety.jsonl").open("w", encoding="utf-8") as log:
        arm = safe_arm(options, workcell, log)
        moves, inferred = collect_moves(options, workcell, arm, encode, planner)
    rows = {"moves_m": moves.tolist(), "inferred_m": inferred.tolist()}
    (out / "moves.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    axes = solve_axes(
        moves, inferred, max_condition=options.max_condition, max_residual=options.max_residual
    )
    axes.write(out / "axes.json")
    return axes


def run(options: Options) -> int:
    """Calibrate; a poor calibration is an error and writes no axes."""
    if not options.execute:
        raise DriveError("A calibration moves the arm: add execute=true when the place is safe")
    with open_workcell(options) as workcell:
        require_motion_confirmation(options, workcell, f"{options.moves} calibration moves")
        axes = calibrate(options, workcell)
    summary = dataclasses.asdict(axes)
    (Path(options.out) / "summary.json").write_text(json.dumps(summary, indent=1))
    print(
        f"angle {axes.angle_deg:.1f} deg, scale {axes.scale:.2f}, condition {axes.condition:.2f}, "
        f"residual {axes.residual:.0%} of {axes.moves} moves"
    )
    print(f"use it: worldmodel drive axes={Path(options.out) / 'axes.json'}")
    return 0
