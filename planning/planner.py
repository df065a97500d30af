"""A plan for one frame: encode, imagine, minimise.

Shapes: B samples, K horizon, N tokens, D width, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.energy import plan_energy
from planning.errors import PlanError
from planning.protocols import WorldModel
from planning.solvers.cem import CEM
from planning.solvers.search import Cost, Plan, Solver


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How a planner searches."""

    optimiser: Solver = field(
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
    """Of each search [s]; the best so far is the plan."""
    history: int = 1
    """Frames that the imagination looks back on: the present one, or 2 with the one before it and
    the action that was planned there."""
    warm_start: bool = False
    """Begin where the last plan toward the same goal would go on, with half the spread."""

    def __post_init__(self) -> None:
        if not 1 <= self.horizon <= 16:
            raise PlanError(f"horizon is {self.horizon}; allowed: 1 to 16")
        if self.history not in (1, 2):
            raise PlanError(f"history is {self.history}; allowed: 1 or 2 frames")


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


WARM_SPREAD = 0.5
"""Spread of the first samples after a warm start, in half widths of the box."""
APPROACH_SLACK_M = 0.01
"""Lateral distance that counts as being over the goal [m]."""


class RememberingModel(WorldModel, Protocol):
    """A world model that can look back on frames before the present one (history 2)."""

    def remember(self, frames_1TND: Tensor, states_1TS: Tensor, actions_1TA: Tensor) -> Any:
        """Make `unroll`'s `past` of T frames."""
        ...

    def unroll(
        self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor, past: Any = None
    ) -> Tensor:
        """Imagined tokens [B, K, N, D]."""
        ...


@dataclass(frozen=True)
class _Last:
    """The plan before this one."""

    generator: torch.Generator
    z_1ND: Tensor
    state_1S: Tensor
    goal_1ND: Tensor
    action_1A: Tensor
    left_3: Tensor
    """Move that the plan still wanted after its first action [m]."""


class Planner:
    """Searches the actions whose imagined end looks like the goal."""

    def __init__(self, model: WorldModel, config: PlannerConfig) -> None:
        self.model, self.config = model, config
        self._last: _Last | None = None

    def cost(
        self,
        z_1ND: Tensor,
        state_1S: Tensor,
        goal_1ND: Tensor,
        actions_BKA: Tensor,
        past: Any = None,
    ) -> Tensor:
        """Energies [B] of action sequences; `past` is what a model that remembers returned."""
        c, parts = self.config, []
        extra = () if past is None else (past,)
        for chunk in actions_BKA.to(z_1ND.device).split(c.chunk):
            imagined = self.model.unroll(z_1ND, state_1S, chunk, *extra)
            parts.append(plan_energy(imagined, goal_1ND, c.norm, c.over))
        return torch.cat(parts)

    @torch.no_grad()
    def plan(
        self, z_1ND: Tensor, state_1S: Tensor, goal_1ND: Tensor, generator: torch.Generator
    ) -> Plan:
        """Plan from encoded tokens and the robot's state toward encoded goal tokens.

        With a history or a warm start, the last call with the same generator (an episode has one of
        its own) is what came before.
        """
        last = self._last if self._last and self._last.generator is generator else None
        past = self._past(last)

        def cost(actions_BKA: Tensor) -> Tensor:
            return self.cost(z_1ND, state_1S, goal_1ND, actions_BKA, past)

        warm = self.config.warm_start and last is not None and last.goal_1ND is goal_1ND
        left_3 = last.left_3 if warm and last is not None else None
        plan, total_3 = self._plan(cost, state_1S, generator, left_3)
        action_1A = plan.actions_KA[:1].to(z_1ND.device)
        rest_3 = total_3 - plan.actions_KA[0, :3]
        self._last = _Last(generator, z_1ND, state_1S, goal_1ND, action_1A, rest_3)
        return plan

    def _past(self, last: _Last | None) -> Any:
        if self.config.history == 1 or last is None:
            return None
        model = cast(RememberingModel, self.model)
        return model.remember(last.z_1ND[:, None], last.state_1S[:, None], last.action_1A[:, None])

    def _plan(
        self, cost: Cost, state_1S: Tensor, generator: torch.Generator, left_3: Tensor | None
    ) -> tuple[Plan, Tensor]:
        """The plan, and the whole move that it is the beginning of [m]."""
        c = self.config
        x, y, z = (float(v) for v in state_1S[0, :3])
        free = replace(c.bounds, start_m=(x, y, z))
        frozen = replace(free, gripper_free=False)
        direct = self._direct(cost, frozen, generator, left_3)
        total = direct.actions_KA[:, :3].sum(0)
        near = float(direct.actions_KA[0, :3].norm()) <= c.gate_m
        if not c.gate_m or near or self._gripper_helps(cost, free, direct):
            found = self._search(cost, free, generator, left_3)
            return found, found.actions_KA[:, :3].sum(0)
        first = torch.zeros(1, 7)
        first[0, :3] = frozen.inside(approach_step(total, c.bounds.max_step_m, c.approach_slope))[0]
        return replace(direct, actions_KA=first), total

    def _gripper_helps(self, cost: Cost, bounds: Bounds, direct: Plan) -> bool:
        """Whether the gripper should act now, before the rest of the way.

        It should when opening or closing on the spot is imagined to end nearer the goal than
        moving, and then moving after it no worse than moving before it: fingers that close on their
        way down end on top of the object.
        """
        if not bounds.gripper_free:
            return False
        on_the_spot = torch.zeros(2, 1, 4)
        on_the_spot[:, 0, 3] = torch.tensor([-1.0, 1.0])
        grips_21A = bounds.full(on_the_spot)
        energies = cost(grips_21A)
        if float(energies.min()) >= float(cost(direct.actions_KA[None])[0]):
            return False
        grip_1A = grips_21A[int(energies.argmin())]
        orders = [[grip_1A, direct.actions_KA], [direct.actions_KA, grip_1A]]
        before, after = cost(torch.stack([torch.cat(order) for order in orders])).tolist()
        return bool(before <= after)

    def _search(
        self,
        cost: Cost,
        bounds: Bounds,
        generator: torch.Generator,
        left_3: Tensor | None,
        horizon: int | None = None,
        steps: int | None = None,
    ) -> Plan:
        """One search; `left_3` (a warm start) is spread evenly over `steps`."""
        horizon = horizon or self.config.horizon
        if left_3 is None:
            warm: dict[str, Any] = {}
        else:
            start = torch.zeros(horizon, 4)
            step = left_3 / (steps or horizon)
            start[:, :3] = step.clamp(-bounds.max_step_m, bounds.max_step_m)
            warm = {"start_K4": start, "spread": WARM_SPREAD}
        return self.config.optimiser.minimise(
            cost, bounds, generator, horizon=horizon, deadline_s=self.config.deadline_s, **warm
        )

    def _direct(
        self, cost: Cost, bounds: Bounds, generator: torch.Generator, left_3: Tensor | None
    ) -> Plan:
        """Plan one step; while it wants more than the box allows, plan one more equal step."""
        c = self.config
        plan = self._search(cost, bounds, generator, left_3)
        for repeats in range(2, c.stretch + 1):
            if float(plan.actions_KA[0, :3].abs().max()) < 0.95 * bounds.max_step_m:
                break

            def tied(actions_B1A: Tensor, repeats: int = repeats) -> Tensor:
                return cost(actions_B1A.expand(-1, repeats, -1))

            one = self._search(tied, bounds, generator, left_3, horizon=1, steps=repeats)
            plan = replace(one, actions_KA=one.actions_KA.expand(repeats, -1))
        return plan
