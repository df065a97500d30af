"""A plan for one frame: encode, imagine, minimise.

Shapes: B samples, K horizon, N tokens, D width, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.cem import CEM, Plan
from planning.costs import plan_energy
from planning.errors import PlanError
from planning.protocols import WorldModel


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How a planner searches."""

    optimiser: CEM = field(
        default_factory=lambda: CEM(num_samples=150, iterations=4, num_elites=12)
    )
    bounds: Bounds = field(default_factory=Bounds)
    horizon: int = 1
    norm: str = "l1"
    over: str = "final"
    chunk: int = 1024
    """Samples imagined at once: bounds the memory."""
    gate_m: float = 0.025
    """Plan with the gripper frozen, and free it only when the planned move is under this [m]
    (0: always free). An ungated search closes too early."""
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.horizon <= 16:
            raise PlanError(f"horizon is {self.horizon}; allowed: 1 to 16")


class Planner:
    """Searches the actions whose imagined end looks like the goal."""

    def __init__(self, model: WorldModel, config: PlannerConfig) -> None:
        self.model, self.config = model, config

    def cost(
        self, z_1ND: Tensor, state_1S: Tensor, goal_1ND: Tensor, actions_BKA: Tensor
    ) -> Tensor:
        """Energies [B] of action sequences."""
        c, parts = self.config, []
        for chunk in actions_BKA.to(z_1ND.device).split(c.chunk):
            imagined = self.model.unroll(z_1ND, state_1S, chunk)
            parts.append(plan_energy(imagined, goal_1ND, c.norm, c.over))
        return torch.cat(parts)

    @torch.inference_mode()
    def plan(
        self, z_1ND: Tensor, state_1S: Tensor, goal_1ND: Tensor, generator: torch.Generator,
    ) -> Plan:  # fmt: skip
        """Plan from encoded tokens and the robot's state toward encoded goal tokens."""
        c = self.config

        def cost(actions_BKA: Tensor) -> Tensor:
            return self.cost(z_1ND, state_1S, goal_1ND, actions_BKA)

        def search(bounds: Bounds) -> Plan:
            return c.optimiser.minimise(
                cost, bounds, generator, horizon=c.horizon, deadline_s=c.deadline_s
            )

        if not c.gate_m:
            return search(c.bounds)
        frozen = search(replace(c.bounds, gripper_free=False))
        if float(frozen.actions_KA[0, :3].norm()) > c.gate_m:
            return frozen
        return search(c.bounds)
