"""First step of a long move: lateral motion above the goal before the descent."""

from __future__ import annotations

import torch
from torch import Tensor

SLACK_M = 0.01
"""Lateral distance below which a position counts as above the goal [m]."""


def approach_step(total_3: Tensor, max_step_m: float, slope: float) -> Tensor:
    """Return the first step [1, 3] of a move that descends only inside a cone above the goal.

    The lateral step is as long as the box allows. With `slope` 0 the step follows `total_3` in a
    straight line, as far as the box allows.
    """
    if not slope:
        return (total_3 * min(1.0, max_step_m / max(float(total_3.abs().max()), 1e-9)))[None]
    sideways = total_3[:2] * min(1.0, max_step_m / max(float(total_3[:2].abs().max()), 1e-9))
    height = -float(total_3[2])
    kept = min(height, slope * max(0.0, float(total_3[:2].norm()) - SLACK_M))
    down = height - kept if height > 0 else height
    return torch.cat([sideways, total_3.new_tensor([-down]).clamp(-max_step_m, max_step_m)])[None]
