"""Errors of decoded object poses against labels from hindsight or from a simulator.

Shapes: B frames (leading axes may be several), M slots.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldmodel.models.object_head import ObjectPose


def hindsight_errors(pose: ObjectPose, labels_B4: Tensor) -> tuple[Tensor, Tensor]:
    """Return the errors of the slot nearest to the label, among those that are likely.

    Args:
        pose: decoded poses of frames [..., M].
        labels_B4: x, y, z [m] and yaw [rad] of one object [..., 4]; NaN where not known.

    Returns:
        Horizontal distance [..., m] and yaw difference modulo pi [..., rad], NaN where not known.
    """
    gap_BM = (pose.position_m[..., :2] - labels_B4[..., None, :2]).norm(dim=-1)
    unlikely_BM = pose.presence < 0.2
    best_B1 = gap_BM.masked_fill(unlikely_BM, math.inf).argmin(-1, keepdim=True)
    turn_BM = yaw_difference(pose.yaw_rad, labels_B4[..., None, 3])
    return gap_BM.gather(-1, best_B1).squeeze(-1), turn_BM.gather(-1, best_B1).squeeze(-1)


def yaw_difference(a_rad: Tensor, b_rad: Tensor) -> Tensor:
    """Return the absolute difference of yaws modulo pi, 0 to pi/2 [rad]."""
    half = math.pi / 2
    return (torch.remainder(a_rad - b_rad + half, math.pi) - half).abs()
