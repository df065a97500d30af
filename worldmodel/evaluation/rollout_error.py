"""What a world model is judged by on held-out clips.

Shapes: B clips, T frames, N tokens a frame, D width, K samples, S state (7), A action (7).
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.models.world_model import WorldModel


@torch.no_grad()
def rollout_errors(
    world: WorldModel,
    z_BTND: Tensor,
    states_BTS: Tensor,
    actions_BTA: Tensor,
    extrinsics_BT6: Tensor | None = None,
) -> dict[str, float]:
    """Mean absolute error of imagined frames by step: true actions, shuffled ones, and a copy.

    `val_step_k` is the error k steps ahead from the first frame; `val_sensitivity` is shuffled over
    true, above 1 when the model listens to its actions.
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


@torch.no_grad()
def offline_action_error(
    world: WorldModel,
    z_BTND: Tensor,
    states_BTS: Tensor,
    actions_BTA: Tensor,
    extrinsics_BT6: Tensor | None = None,
    *,
    samples: int = 64,
    iterations: int = 4,
    elites: int = 8,
    limit_m: float = 0.075,
    seed: int = 0,
) -> dict[str, float]:
    """Plan the recorded next frame with the cross-entropy method; compare with the recorded move.

    Positions are searched within +-`limit_m`, rotation is zero and the gripper is the recorded one.
    Source: the offline measure of JEPA-WMs (arXiv 2512.24497) on DROID.

    Returns:
        `val_action_error_m`, and `val_action_zero_m`: the error of not moving.
    """
    generator = torch.Generator().manual_seed(seed)
    errors, still = [], []
    for clip, (z_TND, states_TS, actions_TA) in enumerate(
        zip(z_BTND, states_BTS, actions_BTA, strict=True)
    ):
        pose_K6 = None
        if extrinsics_BT6 is not None:
            pose_K6 = extrinsics_BT6[clip, :1].expand(samples, -1)
        true_3 = actions_TA[0, :3]
        mean_3, std_3 = torch.zeros(3), torch.full((3,), limit_m / 2)
        for _ in range(iterations):
            moves_K3 = mean_3 + std_3 * torch.randn(samples, 3, generator=generator)
            moves_K3 = moves_K3.clamp(-limit_m, limit_m)
            plan_K1A = actions_TA.new_zeros(samples, 1, 7)
            plan_K1A[:, 0, :3] = moves_K3.to(plan_K1A)
            plan_K1A[:, 0, 6] = actions_TA[0, 6]
            start = (z_TND[None, 0], states_TS[None, 0])
            out = world.unroll(*start, plan_K1A, extrinsics_B6=pose_K6)[:, 0]
            energy_K = (out - z_TND[1]).abs().flatten(1).mean(1)
            best_E3 = moves_K3[energy_K.topk(elites, largest=False).indices.cpu()]
            mean_3, std_3 = best_E3.mean(0), best_E3.std(0) + 1e-4
        errors.append((mean_3.to(true_3) - true_3).norm())
        still.append(true_3.norm())
    return {
        "val_action_error_m": float(torch.stack(errors).mean()),
        "val_action_zero_m": float(torch.stack(still).mean()),
    }
