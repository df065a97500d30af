"""Rollout errors and offline action error of a world model on held-out clips.

Shapes: B clips, T frames, N tokens per frame, D width, K samples, S state (7), A action (7).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from worldmodel.constants import MAX_STEP_M
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
        first frame (`val_copy`); `val_sensitivity`, shuffled over true, which is above 1 if the
        model uses its actions.
    """
    pose_B6 = None if extrinsics_BT6 is None else extrinsics_BT6[:, 0]
    start = (z_BTND[:, 0], states_BTS[:, 0])
    out = world.unroll(*start, actions_BTA, extrinsics_B6=pose_B6)
    wrong = world.unroll(*start, actions_BTA.roll(1, 0), extrinsics_B6=pose_B6)
    target = z_BTND[:, 1:]
    row = {
        f"val_step_{k + 1}": float((out[:, k] - target[:, k]).abs().mean())
        for k in range(target.shape[1])
    }
    row["val_true"] = float((out - target).abs().mean())
    row["val_shuffled"] = float((wrong - target).abs().mean())
    row["val_copy"] = float((z_BTND[:, :1] - target).abs().mean())
    row["val_sensitivity"] = row["val_shuffled"] / max(1e-12, row["val_true"])
    return row


def move_energy(
    world: WorldModel | LatentDynamics,
    z_1ND: Tensor,
    state_1S: Tensor,
    action_A: Tensor,
    goal_1ND: Tensor,
    extrinsics_16: Tensor | None,
    moves_K3: Tensor,
) -> Tensor:
    """Return the distance [K] from the goal after each move with the recorded gripper action."""
    actions_K1A = action_A.new_zeros(len(moves_K3), 1, len(action_A))
    actions_K1A[:, 0, :3] = moves_K3.to(action_A)
    actions_K1A[:, 0, 6:] = action_A[6:]
    pose_K6 = None if extrinsics_16 is None else extrinsics_16.expand(len(moves_K3), -1)
    imagined_KND = world.unroll(z_1ND, state_1S, actions_K1A, extrinsics_B6=pose_K6)[:, 0]
    return token_distance(imagined_KND, goal_1ND)


def search_move(
    energy: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    *,
    samples: int,
    iterations: int,
    elites: int,
    limit_m: float,
) -> Tensor:
    """Search a low-energy move [3] within +-`limit_m`.

    This fixed search is part of the metric, so that its values do not depend on the planner.
    """
    mean_3, std_3 = torch.zeros(3), torch.full((3,), limit_m / 2)
    for _ in range(iterations):
        moves_K3 = mean_3 + std_3 * torch.randn(samples, 3, generator=generator)
        moves_K3 = moves_K3.clamp(-limit_m, limit_m)
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
    seed: int = 0,
) -> dict[str, float]:
    """Compare the recorded move with the one found by searching for the recorded next frame.

    Positions are searched within +-`limit_m`, rotation is zero and the gripper is the recorded one.
    Source: the offline metric of JEPA-WMs (arXiv 2512.24497) on DROID.

    Returns:
        `val_action_error_m`, and `val_action_zero_m`, the error of not moving.
    """
    generator = torch.Generator().manual_seed(seed)
    settings = {"samples": samples, "iterations": iterations, "elites": elites}
    errors, still = [], []
    for clip, action_A in enumerate(actions_BTA[:, 0]):
        pose_16 = None if extrinsics_BT6 is None else extrinsics_BT6[clip, :1]
        start = (z_BTND[clip, :1], states_BTS[clip, :1])
        energy = partial(move_energy, world, *start, action_A, z_BTND[clip, 1:2], pose_16)
        move_3 = search_move(energy, generator, **settings, limit_m=limit_m)
        errors.append((move_3.to(action_A) - action_A[:3]).norm())
        still.append(action_A[:3].norm())
    return {
        "val_action_error_m": float(torch.stack(errors).mean()),
        "val_action_zero_m": float(torch.stack(still).mean()),
    }
