"""A plan for one frame: encode, imagine, minimise.

Shapes: B samples, K horizon, N tokens, D width, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.cem import CEM, Cost, Plan
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
    stretch: int = 3
    """A goal out of one step's reach is planned as this many equal steps at most. With a single
    clipped step the free axes make up for the clipped one, and the path bends."""
    detour_gain: float = 0.1
    """Choose a bent path of one more step over the straight one when its imagined end is nearer
    the goal by this share of the energy (0: never look). Straight paths knock objects over."""
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

        x, y, z = (float(v) for v in state_1S[0, :3])
        free = replace(c.bounds, start_m=(x, y, z))
        frozen = replace(free, gripper_free=False)
        direct = self._direct(cost, frozen, generator)
        if c.gate_m and float(direct.actions_KA[0, :3].norm()) <= c.gate_m:
            return self._search(cost, free, generator)
        if not c.gate_m:
            return self._search(cost, free, generator)
        return self._detour(cost, frozen, generator, direct)

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

    def _detour(
        self, cost: Cost, bounds: Bounds, generator: torch.Generator, direct: Plan
    ) -> Plan:  # fmt: skip
        """Take a bent path of one more step if its imagined end is clearly nearer the goal."""
        c = self.config
        steps = len(direct.actions_KA)
        if not c.detour_gain or steps >= c.stretch:
            return direct
        total = direct.actions_KA.sum(0)[[0, 1, 2, 6]]
        start = (total / (steps + 1)).repeat(steps + 1, 1)
        bent = c.optimiser.minimise(
            cost, bounds, generator, horizon=steps + 1, start_K4=start, spread=0.6,
            deadline_s=c.deadline_s,
        )  # fmt: skip
        straight, curved = (float(cost(p.actions_KA[None])[0]) for p in (direct, bent))
        return bent if curved < (1 - c.detour_gain) * straight else direct
