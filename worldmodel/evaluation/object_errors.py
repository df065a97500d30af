"""Errors of decoded object poses against labels from hindsight or from a simulator.

Shapes: B frames (leading axes may be several), L labelled objects, M slots.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldmodel.models.object_head import ObjectPose


def pose_errors(pose: ObjectPose, labels_BL4: Tensor) -> tuple[Tensor, Tensor]:
    """Return the errors of the slot nearest to each label, among those that are likely.

    Args:
        pose: Decoded poses of frames [..., M].
        labels_BL4: x, y, z [m] and yaw [rad] of L objects [..., L, 4]; NaN where not known.

    Returns:
        Horizontal distance [..., L, m] and yaw difference modulo pi [..., L, rad], NaN where not
        known.
    """
    gap_BLM = (pose.position_m[..., None, :, :2] - labels_BL4[..., None, :2]).norm(dim=-1)
    unlikely_B1M = (pose.presence < 0.2).unsqueeze(-2)
    best_BL1 = gap_BLM.masked_fill(unlikely_B1M, math.inf).argmin(-1, keepdim=True)
    turn_BLM = yaw_difference(pose.yaw_rad[..., None, :], labels_BL4[..., None, 3])
    return gap_BLM.gather(-1, best_BL1).squeeze(-1), turn_BLM.gather(-1, best_BL1).squeeze(-1)


def yaw_difference(a_rad: Tensor, b_rad: Tensor) -> Tensor:
    """Return the absolute difference of yaws modulo pi, 0 to pi/2 [rad]."""
    half = math.pi / 2
    return (torch.remainder(a_rad - b_rad + half, math.pi) - half).abs()
