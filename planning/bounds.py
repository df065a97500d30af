"""Limits of planned actions, and the meaning of the gripper's number.

Shapes: B samples, K horizon, A action (7), 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from planning.errors import PlanError

MAX_STEP_M = 0.075
"""Default largest change of position per action and axis [m]. Source: V-JEPA 2, sec. 4.2."""
GRIPPER_DEAD_BAND = 0.15
"""Gripper commands of at most this size keep the gripper; larger ones close or open it."""
PUBLISHED_DEAD_BAND = 0.25
"""Planned closedness changes below this become 0 in the published planner."""
NO_LIMIT_M = 1e9


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits of one action, and which of its numbers are planned."""

    max_step_m: float = MAX_STEP_M
    """Largest change of position per axis [m]: a box."""
    gripper: Literal["published", "ternary"] = "ternary"
    """published: a change of closedness, where less than 0.25 becomes 0. ternary: a command, -1
    open, 0 keep or +1 close."""
    gripper_free: bool = True
    """Plan the gripper; False makes its number 0 in every plan."""
    low_m: tuple[float, float, float] | None = None
    """Lowest position (x, y, z) [m] that a plan may lead to; None: no limit."""
    high_m: tuple[float, float, float] | None = None
    """Highest position (x, y, z) [m] that a plan may lead to; None: no limit."""
    start_m: tuple[float, float, float] | None = None
    """Present position (x, y, z) [m], where every plan starts; `low_m` and `high_m` need it."""

    def __post_init__(self) -> None:
        if not self.max_step_m > 0:
            raise PlanError(f"max_step_m is {self.max_step_m}; allowed: above 0 [m]")

    def inside(self, moves_BK3: Tensor) -> Tensor:
        """Clip moves to the box, and shorten them where their path would leave the workspace."""
        moves = moves_BK3.clamp(-self.max_step_m, self.max_step_m)
        if self.start_m is None or (self.low_m is None and self.high_m is None):
            return moves
        start, low, high = _limits(self, moves.device, moves.dtype)
        position, parts = start, []
        for k in range(moves.shape[-2]):
            next_position = (position + moves[..., k, :]).clamp(low, high)
            parts.append(next_position - position)
            position = next_position
        return torch.stack(parts, dim=-2).clamp(-self.max_step_m, self.max_step_m)

    def full(self, free_BK4: Tensor) -> Tensor:
        """Expand planned numbers to actions [B, K, 7] inside the limits, without rotation."""
        position = self.inside(free_BK4[..., :3])
        grip = free_BK4[..., 3:].clamp(-1.0, 1.0)
        if not self.gripper_free:
            grip = torch.zeros_like(grip)
        elif self.gripper == "ternary":
            moved = grip.abs() > GRIPPER_DEAD_BAND
            grip = torch.where(moved, grip.sign(), torch.zeros_like(grip))
        else:
            grip = torch.where(grip.abs() < PUBLISHED_DEAD_BAND, torch.zeros_like(grip), grip)
        return torch.cat([position, torch.zeros_like(position), grip], dim=-1)

    def clip(self, free_BK4: Tensor) -> Tensor:
        """Clip planned numbers to the box, in place."""
        free_BK4[..., :3].clamp_(-self.max_step_m, self.max_step_m)
        free_BK4[..., 3].clamp_(-1.0, 1.0)
        return free_BK4


@lru_cache(maxsize=64)
def _limits(
    bounds: Bounds, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return start, lowest and highest position on a device, copied there once."""
    corners = (
        bounds.start_m,
        bounds.low_m or (-NO_LIMIT_M,) * 3,
        bounds.high_m or (NO_LIMIT_M,) * 3,
    )
    # Tensors made in inference mode could not meet gradients in a later search.
    with torch.inference_mode(mode=False):
        start, low, high = (torch.tensor(c, device=device, dtype=dtype) for c in corners)
        return start, start.minimum(low), start.maximum(high)
