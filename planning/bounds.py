"""The box that actions live in, and what the gripper's number means.

Shapes: B samples, K horizon, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from planning.errors import PlanError


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits of one action, and which of its numbers are planned."""

    max_step_m: float = 0.075
    """Each position axis stays within this (a box)."""
    gripper: Literal["published", "ternary"] = "ternary"
    """published: a planned closedness change under 0.25 becomes 0. ternary: a command."""
    gripper_free: bool = True
    """False: the gripper's number is 0 in every plan."""

    def __post_init__(self) -> None:
        if not self.max_step_m > 0:
            raise PlanError(f"max_step_m is {self.max_step_m}; wanted above 0 [m]")

    def full(self, free_BK4: Tensor) -> Tensor:
        """Planned numbers (x, y, z, gripper) -> actions [B, K, 7]; rotation stays 0."""
        position = free_BK4[..., :3].clamp(-self.max_step_m, self.max_step_m)
        grip = free_BK4[..., 3:].clamp(-1.0, 1.0)
        if not self.gripper_free:
            grip = torch.zeros_like(grip)
        elif self.gripper == "ternary":
            grip = torch.where(grip.abs() > 0.15, grip.sign(), torch.zeros_like(grip))
        else:
            grip = torch.where(grip.abs() < 0.25, torch.zeros_like(grip), grip)
        return torch.cat([position, torch.zeros_like(position), grip], dim=-1)
