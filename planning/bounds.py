"""The box that actions live in, and what the gripper's number means.

Shapes: B samples, K horizon, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
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

    low_m: tuple[float, float, float] | None = None
    """Lowest flange position (x, y, z) that a plan may lead to; None: no limit."""
    high_m: tuple[float, float, float] | None = None
    """Highest."""
    start_m: tuple[float, float, float] | None = None
    """Where the flange is now; `low_m` and `high_m` count from here."""

    def __post_init__(self) -> None:
        if not self.max_step_m > 0:
            raise PlanError(f"max_step_m is {self.max_step_m}; wanted above 0 [m]")

    def inside(self, position_BK3: Tensor) -> Tensor:
        """Moves clipped to the box, and shortened where the path would leave the workspace."""
        moves = position_BK3.clamp(-self.max_step_m, self.max_step_m)
        if self.start_m is None or (self.low_m is None and self.high_m is None):
            return moves
        start, low, high = _limits(self, moves.device, moves.dtype)
        place, parts = start, []
        for k in range(moves.shape[-2]):
            next_place = (place + moves[..., k, :]).clamp(low, high)
            parts.append(next_place - place)
            place = next_place
        return torch.stack(parts, dim=-2).clamp(-self.max_step_m, self.max_step_m)

    def full(self, free_BK4: Tensor) -> Tensor:
        """Planned numbers (x, y, z, gripper) -> actions [B, K, 7]; rotation stays 0."""
        position = self.inside(free_BK4[..., :3])
        grip = free_BK4[..., 3:].clamp(-1.0, 1.0)
        if not self.gripper_free:
            grip = torch.zeros_like(grip)
        elif self.gripper == "ternary":
            grip = torch.where(grip.abs() > 0.15, grip.sign(), torch.zeros_like(grip))
        else:
            grip = torch.where(grip.abs() < 0.25, torch.zeros_like(grip), grip)
        return torch.cat([position, torch.zeros_like(position), grip], dim=-1)


@lru_cache(maxsize=64)
def _limits(
    bounds: Bounds, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Start, lowest and highest position on a device, copied there once."""
    with torch.inference_mode(mode=False):  # they may meet gradients later
        start, low, high = (
            torch.tensor(place, device=device, dtype=dtype)
            for place in (bounds.start_m, bounds.low_m or (-1e9,) * 3, bounds.high_m or (1e9,) * 3)
        )
        return start, start.minimum(low), start.maximum(high)
