"""Estimate the rotation from a model's axes to the arm's. Source: V-JEPA 2, appendix B.4."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from planning.apps.open_workcell import open_workcell
from planning.apps.operator import Operator, require_motion_confirmation, step_question
from planning.apps.policies import open_policy
from planning.apps.workcell import Workcell, safe_arm
from planning.arm_options import CalibrateOptions
from planning.errors import DriveError
from planning.planner import Memory
from planning.policy import Policy
from robot.calibrate import Axes, draw_moves, solve_axes
from robot.safety.layer import SafeArm
from worldmodel.atomic_io import no_links, write_json

Array = NDArray[np.float64]


def infer_move(
    policy: Policy, before: NDArray[np.uint8], after: NDArray[np.uint8], state: Array, seed: int
) -> Array:
    """Return the x-y move [2, m] that the model infers between two images."""
    seen, goal_1ND = policy.observe(before, state), policy.encode(after)
    plan, _ = policy.planner.plan(seen, goal_1ND, Memory.start(seed))
    return plan.actions_KA[:, :2].sum(0).cpu().numpy().astype(np.float64)


def collect_moves(
    options: CalibrateOptions, workcell: Workcell, arm: SafeArm, policy: Policy
) -> tuple[Array, Array]:
    """Execute safe random moves.

    Returns:
        True moves of the arm and inferred moves of the model, [N, 2, m] each.

    Raises:
        DriveError: A move was refused.
    """
    angle_rad = np.radians(options.turn_deg)
    rotation = np.array(
        [[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]]
    )
    rng, camera = np.random.default_rng(options.seed), workcell.checked()
    true_moves, inferred_moves = [], []
    moves = draw_moves(rng, options.moves, options.length_m, options.reach_m)
    for index, move in enumerate(tqdm(moves, desc="moves")):
        before, state = camera.read().image, arm.state().state
        sent = arm.send([*(rotation @ move), 0, 0, 0, 0, 0])
        if sent.refused:
            reasons = "; ".join(str(reason) for reason in sent.reasons)
            raise DriveError(
                f"Move {index} was refused ({reasons}). Start in the middle of the workcell, or "
                "lower length_m."
            )
        moved = (arm.state().state - state)[:2]
        # The test rotation is hidden inside the arm, which reports the requested move.
        true_moves.append(rotation.T @ moved)
        inferred_moves.append(infer_move(policy, before, camera.read().image, state, index))
    return np.array(true_moves), np.array(inferred_moves)


def calibrate_axes(options: CalibrateOptions, operator: Operator) -> Axes:
    """Move the arm, infer the moves and solve; write axes.json, moves.json and summary.json.

    Raises:
        DriveError: The drive is a dry run, the model sees several cameras, or a move was refused.
        CalibrationError: The moves do not determine the rotation; no axes are written.
    """
    if not options.motion.execute:
        raise DriveError("A calibration moves the arm. Add execute=true when it is safe to move.")
    cell, motion, out = options.workcell, options.motion, Path(options.out)
    policy = open_policy(
        options.model,
        options.planner,
        device=options.device,
        precision=options.precision,
        gripper_free=False,
    )
    if len(policy.views) > 1:
        raise DriveError(
            f"The model sees the cameras {', '.join(policy.views)}. Calibrate with a model of one "
            "camera: the axes are those of the arm and the main camera"
        )
    with open_workcell(cell, max(policy.image_size)) as workcell:
        workcell.require_states(policy.model.observation_spec.state_dim)
        policy.connect(workcell.spec)
        what = f"{options.moves} calibration moves"
        require_motion_confirmation(operator, workcell, cell, motion, what)
        workcell.begin(options.seed)
        out.mkdir(parents=True, exist_ok=True)
        confirm = step_question(operator) if motion.confirm_each else None
        with open(out / "safety.jsonl", "w", encoding="utf-8", opener=no_links) as log:
            arm = safe_arm(cell, workcell, execute=True, confirm=confirm, log=log)
            moves, inferred = collect_moves(options, workcell, arm, policy)
    write_json(out / "moves.json", {"moves_m": moves.tolist(), "inferred_m": inferred.tolist()})
    axes = solve_axes(
        moves, inferred, max_condition=options.max_condition, max_residual=options.max_residual
    )
    axes.write(out / "axes.json")
    write_json(out / "summary.json", dataclasses.asdict(axes))
    return axes
