"""Rollout errors and offline action error of a world model on held-out clips.

Shapes: B clips, T frames, N tokens per frame, D width, K samples, S state (7), A action (7).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from worldmodel.constants import MAX_ROTATION_RAD, MAX_STEP_M
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.energy import token_distance
from worldmodel.models.world_model import WorldModel


@torch.no_grad()
def rollout_errors(
    world: WorldModel | LatentDynamics,
    z_BTND: Tensor,
    states_BTS: Tensor,
    actions_BTA: Tensor,
    extrinsics_BT6: Tensor | None = None,
) -> dict[str, float]:
    """Compute the mean absolute error of predicted frames by step.

    Returns:
        `val_step_k`, the error k steps after the first frame; its mean over steps with the recorded
        actions (`val_true`), with those of another clip (`val_shuffled`), and for a copy of the
        first frame (`val_copy`), the last two also by step (`val_shuffled_step_k`,
        `val_copy_step_k`); `val_sensitivity`, shuffled over true, which is above 1 if the model
        uses its actions.
    """
    pose_B6 = None if extrinsics_BT6 is None else extrinsics_BT6[:, 0]
    start = (z_BTND[:, 0], states_BTS[:, 0])
    out = world.unroll(*start, actions_BTA, extrinsics_B6=pose_B6)
    wrong = world.unroll(*start, actions_BTA.roll(1, 0), extrinsics_B6=pose_B6)
    target = z_BTND[:, 1:]
    copied = z_BTND[:, :1].expand_as(target)
    row = {
        f"val_{name}step_{k + 1}": float((z[:, k] - target[:, k]).abs().mean())
        for name, z in (("", out), ("shuffled_", wrong), ("copy_", copied))
        for k in range(target.shape[1])
    }
    row["val_true"] = float((out - target).abs().mean())
    row["val_shuffled"] = float((wrong - target).abs().mean())
    row["val_copy"] = float((z_BTND[:, :1] - target).abs().mean())
    row["val_sensitivity"] = row["val_shuffled"] / max(1e-12, row["val_true"])
    return row


def action_energy(
    world: WorldModel | LatentDynamics,
    z_1ND: Tensor,
    state_1S: Tensor,
    goal_1ND: Tensor,
    extrinsics_16: Tensor | None,
    actions_KA: Tensor,
) -> Tensor:
    """Return the distance [K] from the goal after each action."""
    pose_K6 = None if extrinsics_16 is None else extrinsics_16.expand(len(actions_KA), -1)
    unrolled = world.unroll(z_1ND, state_1S, actions_KA[:, None], extrinsics_B6=pose_K6)
    return token_distance(unrolled[:, 0], goal_1ND)


def search_move(
    energy: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    *,
    samples: int,
    iterations: int,
    elites: int,
    limit: float,
) -> Tensor:
    """Search a low-energy move or turn [3] within +-`limit` [m or rad].

    This fixed search is part of the metric, so that its values do not depend on the planner.
    """
    mean_3, std_3 = torch.zeros(3), torch.full((3,), limit / 2)
    for _ in range(iterations):
        moves_K3 = mean_3 + std_3 * torch.randn(samples, 3, generator=generator)
        moves_K3 = moves_K3.clamp(-limit, limit)
        best_E3 = moves_K3[energy(moves_K3).topk(elites, largest=False).indices.cpu()]
        mean_3, std_3 = best_E3.mean(0), best_E3.std(0) + 1e-4
    return mean_3


@torch.no_grad()
def offline_action_error(
    world: WorldModel | LatentDynamics,
    z_BTND: Tensor,
    states_BTS: Tensor,
    actions_BTA: Tensor,
    extrinsics_BT6: Tensor | None = None,
    *,
    samples: int = 64,
    iterations: int = 4,
    elites: int = 8,
    limit_m: float = MAX_STEP_M,
    limit_rad: float = MAX_ROTATION_RAD,
    seed: int = 0,
) -> dict[str, float]:
    """Compare the recorded move with the one found by searching for the recorded next frame.

    Positions are searched within +-`limit_m`, with zero rotation and the recorded gripper command.
    A second search finds the rotation within +-`limit_rad`, with the recorded move and gripper
    command. Source: the offline metric of JEPA-WMs (arXiv 2512.24497) on DROID, which has the
    positions.

    Returns:
        `val_action_error_m`, and `val_action_zero_m`, the error of not moving; the same for the
        rotation vector (`val_action_error_rad`, `val_action_zero_rad`); and the mean absolute error
        of each axis (`val_action_error_x_m`, ..., `val_action_error_roll_rad`, ...) beside that of
        not moving (`val_action_zero_x_m`, ...).
    """
    settings = {"samples": samples, "iterations": iterations, "elites": elites}
    random_m, random_rad = (torch.Generator().manual_seed(seed + part) for part in (0, 1))
    errors: list[Tensor] = []
    for clip, action_A in enumerate(actions_BTA[:, 0]):
        pose_16 = None if extrinsics_BT6 is None else extrinsics_BT6[clip, :1]
        data = (world, z_BTND[clip, :1], states_BTS[clip, :1], z_BTND[clip, 1:2], pose_16)
        still_A = action_A.clone()
        still_A[3:6] = 0
        moves = partial(_energy_of, data, still_A, slice(0, 3))
        move_3 = search_move(moves, random_m, **settings, limit=limit_m)
        turns = partial(_energy_of, data, action_A, slice(3, 6))
        turn_3 = search_move(turns, random_rad, **settings, limit=limit_rad)
        errors.append(torch.cat([move_3, turn_3]).to(action_A) - action_A[:6])
    return _by_axis("error", torch.stack(errors)) | _by_axis("zero", actions_BTA[:, 0, :6])


EnergyData = tuple[WorldModel | LatentDynamics, Tensor, Tensor, Tensor, Tensor | None]
"""First four arguments of `action_energy`, and the extrinsics."""


def _energy_of(data: EnergyData, action_A: Tensor, part: slice, values_K3: Tensor) -> Tensor:
    """Return the energy [K] of an action with each of the values in one part."""
    actions_KA = action_A.repeat(len(values_K3), 1)
    actions_KA[:, part] = values_K3.to(action_A)
    return action_energy(*data, actions_KA)


def _by_axis(name: str, values_B6: Tensor) -> dict[str, float]:
    """Return norms and axes of errors in position [m] and rotation [rad], means over clips."""
    row = {}
    for unit, part, axes in (
        ("m", values_B6[:, :3], ("x", "y", "z")),
        ("rad", values_B6[:, 3:], ("roll", "pitch", "yaw")),
    ):
        row[f"val_action_{name}_{unit}"] = float(part.norm(dim=1).mean())
        means = part.abs().mean(0).tolist()
        row |= {f"val_action_{name}_{axis}_{unit}": v for axis, v in zip(axes, means, strict=True)}
    return row
