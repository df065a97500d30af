"""Limits of planned actions, and the gripper convention.

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
"""Default maximum change of position per action and axis [m]. Source: V-JEPA 2, sec. 4.2."""
GRIPPER_DEAD_BAND = 0.15
"""Dead band of gripper commands: larger magnitudes close or open the gripper."""
PUBLISHED_DEAD_BAND = 0.25
"""Planned closedness changes below this are set to 0 in the published planner."""
NO_LIMIT_M = 1e9
PLANNED_DIM = 4
"""Planned numbers of an action: x, y, z, gripper."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits of an action, and which of its components are planned."""

    max_step_m: float = MAX_STEP_M
    """Maximum change of position per axis [m]."""
    gripper: Literal["published", "ternary"] = "ternary"
    """Gripper convention. published: change of closedness, with less than 0.25 set to 0; ternary:
    command of -1 open, 0 keep or +1 close."""
    action_dim: int = 7
    """Numbers of an action: 7, or 4 (x, y, z, gripper) of an arm that never turns."""
    gripper_free: bool = True
    """Whether to plan the gripper; if False, its component is 0 in every plan."""
    low_m: tuple[float, float, float] | None = None
    """Lower workspace corner (x, y, z) [m] of planned positions; None for no limit."""
    high_m: tuple[float, float, float] | None = None
    """Upper workspace corner (x, y, z) [m] of planned positions; None for no limit."""
    start_m: tuple[float, float, float] | None = None
    """Current position (x, y, z) [m], where plans start; required by `low_m` and `high_m`."""

    def __post_init__(self) -> None:
        if not self.max_step_m > 0:
            raise PlanError(f"max_step_m is {self.max_step_m}; allowed: above 0 [m]")

    def limits(self, device: torch.device | str) -> Tensor | None:
        """Return start, lower and upper corner of the workspace [3, 3, m]; None without any."""
        if self.start_m is None or (self.low_m is None and self.high_m is None):
            return None
        return _limits(self, torch.device(device))

    def inside(self, moves_BK3: Tensor, limits_33: Tensor | None = None) -> Tensor:
        """Clip moves to the box, and shorten those whose path would leave the workspace.

        `limits_33` replaces those of `limits`, for a captured CUDA graph, whose inputs stay the
        same tensors.
        """
        moves = moves_BK3.clamp(-self.max_step_m, self.max_step_m)
        limits_33 = self.limits(moves.device) if limits_33 is None else limits_33
        if limits_33 is None:
            return moves
        start, low, high = limits_33.to(moves.dtype)
        position, parts = start, []
        for k in range(moves.shape[-2]):
            next_position = (position + moves[..., k, :]).clamp(low, high)
            parts.append(next_position - position)
            position = next_position
        return torch.stack(parts, dim=-2).clamp(-self.max_step_m, self.max_step_m)

    def full(self, free_BK4: Tensor, limits_33: Tensor | None = None) -> Tensor:
        """Expand planned components to actions [B, K, A] inside the limits, without rotation.

        For `limits_33` see `inside`.
        """
        position = self.inside(free_BK4[..., :3], limits_33)
        grip = free_BK4[..., 3:].clamp(-1.0, 1.0)
        if not self.gripper_free:
            grip = torch.zeros_like(grip)
        elif self.gripper == "ternary":
            moved = grip.abs() > GRIPPER_DEAD_BAND
            grip = torch.where(moved, grip.sign(), torch.zeros_like(grip))
        else:
            grip = torch.where(grip.abs() < PUBLISHED_DEAD_BAND, torch.zeros_like(grip), grip)
        if self.action_dim == PLANNED_DIM:
            return torch.cat([position, grip], dim=-1)
        return torch.cat([position, torch.zeros_like(position), grip], dim=-1)

    def clip(self, free_BK4: Tensor) -> Tensor:
        """Clip planned components to the box, in place."""
        free_BK4[..., :3].clamp_(-self.max_step_m, self.max_step_m)
        free_BK4[..., 3].clamp_(-1.0, 1.0)
        return free_BK4


@lru_cache(maxsize=64)
def _limits(bounds: Bounds, device: torch.device) -> Tensor:
    """Return start, lower and upper corner [3, 3] on a device, cached across calls."""
    corners = (
        bounds.start_m,
        bounds.low_m or (-NO_LIMIT_M,) * 3,
        bounds.high_m or (NO_LIMIT_M,) * 3,
    )
    # Tensors created in inference mode cannot be used with gradients in a later search.
    with torch.inference_mode(mode=False):
        start, low, high = torch.tensor(corners, dtype=torch.float32)
        return torch.stack([start, start.minimum(low), start.maximum(high)]).to(device)
