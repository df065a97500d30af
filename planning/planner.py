"""A plan for one frame: encode, imagine, minimise.

Shapes: B samples, K horizon, N tokens, D width, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.cem import CEM, Cost, Optimiser, Plan
from planning.costs import plan_energy
from planning.errors import PlanError
from planning.protocols import WorldModel


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How a planner searches."""

    optimiser: Optimiser = field(
        default_factory=lambda: CEM(num_samples=150, iterations=4, num_elites=12)
    )
    bounds: Bounds = field(default_factory=Bounds)
    horizon: int = 1
    stretch: int = 3
    """A goal out of one step's reach is planned as this many equal steps at most. With a single
    clipped step the free axes make up for the clipped one, and the path bends."""
    approach_slope: float = 1.0
    """Height over the goal that is kept per lateral distance left, going down (0: straight lines).
    Fingers that come in low and sideways knock the object over before they are around it."""
    norm: str = "l1"
    over: str = "final"
    chunk: int = 1024
    """Samples imagined at once: bounds the memory."""
    gate_m: float = 0.025
    """Plan with the gripper frozen, and free it only when the planned move is under this [m], or
    when moving promises less than the gripper alone (0: always free). An ungated search closes too
    early."""
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.horizon <= 16:
            raise PlanError(f"horizon is {self.horizon}; allowed: 1 to 16")


def approach_step(total_3: Tensor, max_step_m: float, slope: float) -> Tensor:
    """First step [1, 3] of a move: sideways at full speed, down only inside a cone over the goal.

    With `slope` 0 the step goes straight along `total_3`, as far as the box allows.
    """
    if not slope:
        return (total_3 * min(1.0, max_step_m / max(float(total_3.abs().max()), 1e-9)))[None]
    sideways = total_3[:2] * min(1.0, max_step_m / max(float(total_3[:2].abs().max()), 1e-9))
    height = -float(total_3[2])
    kept = min(height, slope * max(0.0, float(total_3[:2].norm()) - APPROACH_SLACK_M))
    down = height - kept if height > 0 else height
    return torch.cat([sideways, total_3.new_tensor([-down]).clamp(-max_step_m, max_step_m)])[None]


APPROACH_SLACK_M = 0.01
"""Lateral distance that counts as being over the goal [m]."""


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

    @torch.no_grad()
    def plan(
        self, z_1ND: Tensor, state_1S: Tensor, goal_1ND: Tensor, generator: torch.Generator,
    ) -> Plan:  # fmt: skip
        """Plan from encoded tokens and the robot's state toward encoded goal tokens."""
        c = self.config

        def cost(actions_BKA: Tensor) -> Tensor:
            return self.cost(z_1ND, state_1S, goal_1ND, actions_BKA)

        x, y, z = (float(v) for v in state_1S[0, :3])
        free = replace(c.bounds, start_m=(x, y, z))
        frozen = replace(free, gripper_free=False)
        direct = self._direct(cost, frozen, generator)
        near = float(direct.actions_KA[0, :3].norm()) <= c.gate_m
        if not c.gate_m or near or self._gripper_helps(cost, free, direct):
            return self._search(cost, free, generator)
        total = direct.actions_KA[:, :3].sum(0)
        first = torch.zeros(1, 7)
        first[0, :3] = frozen.inside(approach_step(total, c.bounds.max_step_m, c.approach_slope))[0]
        return replace(direct, actions_KA=first)

    def _gripper_helps(self, cost: Cost, bounds: Bounds, direct: Plan) -> bool:
        """Whether opening or closing on the spot is imagined to end nearer the goal than moving."""
        if not bounds.gripper_free:
            return False
        on_the_spot = torch.zeros(2, 1, 4)
        on_the_spot[:, 0, 3] = torch.tensor([-1.0, 1.0])
        return float(cost(bounds.full(on_the_spot)).min()) < float(cost(direct.actions_KA[None])[0])

    def _search(self, cost: Cost, bounds: Bounds, generator: torch.Generator) -> Plan:
        c = self.config
        return c.optimiser.minimise(
            cost, bounds, generator, horizon=c.horizon, deadline_s=c.deadline_s
        )

    def _direct(self, cost: Cost, bounds: Bounds, generator: torch.Generator) -> Plan:
        """Plan one step; while it wants more than the box allows, plan one more equal step."""
        c = self.config
        plan = self._search(cost, bounds, generator)
        for repeats in range(2, c.stretch + 1):
            if float(plan.actions_KA[0, :3].abs().max()) < 0.95 * bounds.max_step_m:
                break

            def tied(actions_B1A: Tensor, repeats: int = repeats) -> Tensor:
                return cost(actions_B1A.expand(-1, repeats, -1))

            one = c.optimiser.minimise(tied, bounds, generator, deadline_s=c.deadline_s)
            plan = replace(one, actions_KA=one.actions_KA.expand(repeats, -1))
        return plan
