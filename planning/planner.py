"""A plan for one observation: imagine actions, compare their end with the goal, search the best.

Shapes: B samples, K horizon, N tokens, D width, S state, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self, overload

import torch
from torch import Tensor

from planning.approach import approach_step
from planning.bounds import Bounds
from planning.energy import plan_energy
from planning.errors import PlanError
from planning.protocols import Dynamics, Past
from planning.solvers.cem import CEM
from planning.solvers.search import Cost, Plan, Solver

WARM_SPREAD = 0.5
"""Spread of the first samples after a warm start, in half widths of the box."""
AT_THE_LIMIT = 0.95
"""Share of the box above which a step counts as limited by it."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Settings of a planner's search."""

    optimiser: Solver = field(
        default_factory=lambda: CEM(num_samples=150, iterations=4, num_elites=12)
    )
    """Search algorithm with its own settings."""
    horizon: int = 1
    """Number of actions imagined ahead, 1 to 16."""
    stretch: int = 3
    """Largest number of equal steps planned toward a goal that one step cannot reach. A single
    clipped step would bend the path: its free axes make up for the clipped one."""
    approach_slope: float = 1.0
    """Height kept above the goal per lateral distance while descending; 0 descends in a straight
    line. Fingers that arrive low and sideways knock the object over."""
    norm: Literal["l1", "l2"] = "l1"
    """Distance between tokens: mean absolute or mean squared difference."""
    over: Literal["final", "sum"] = "final"
    """Compare the final imagined frame with the goal, or the mean over all frames."""
    chunk: int = 1024
    """Number of samples imagined at once; it bounds the memory."""
    gripper_free: bool = True
    """Plan the gripper; False keeps it as it is in every plan."""
    gate_m: float = 0.025
    """Plan the gripper only when the planned move is shorter than this [m], or when the gripper
    alone promises more than moving; 0 plans it always. Without the gate it closes too early."""
    deadline_s: float | None = None
    """Time limit of each search [s]; the best plan so far is used. None: no limit."""
    history: int = 1
    """Number of frames the model conditions on: the present one, or 2 with the previous frame and
    the action planned there."""
    warm_start: bool = False
    """Start each search from the rest of the previous plan toward the same goal, with half the
    spread."""

    def __post_init__(self) -> None:
        if not 1 <= self.horizon <= 16:
            raise PlanError(f"horizon is {self.horizon}; allowed: 1 to 16")
        if self.history not in (1, 2):
            raise PlanError(f"history is {self.history}; allowed: 1 or 2 frames")


@dataclass(frozen=True)
class Observation:
    """An encoded camera frame and the robot's state at the same moment."""

    z_1ND: Tensor
    """Tokens of the frame."""
    state_1S: Tensor
    """State in the model's state frame."""
    position_m: tuple[float, float, float] | None = None
    """Position (x, y, z) from which the workspace limits count; None: that of the state."""


@dataclass(frozen=True)
class PlannedStep:
    """What was observed and planned one step earlier."""

    observation: Observation
    goal_1ND: Tensor
    action_1A: Tensor
    """First action of the plan."""
    left_3: Tensor
    """Rest of the planned move after that action [m]."""


@dataclass(frozen=True)
class Memory:
    """What an episode's next plan depends on; the caller passes it from call to call."""

    generator: torch.Generator
    """Random generator of the episode; it advances with every plan."""
    last: PlannedStep | None = None
    """The previous step; None at the beginning of an episode."""

    @classmethod
    def start(cls, seed: int = 0) -> Self:
        """Return the memory of a new episode."""
        return cls(torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class _Problem:
    """One planning problem: the energy of actions, and where the search starts."""

    cost: Cost
    bounds: Bounds
    generator: torch.Generator
    left_3: Tensor | None
    """Move that the previous plan left over [m]; None: no warm start."""


class Planner:
    """Searches the actions whose imagined end looks like the goal.

    Args:
        model: imagines what actions lead to.
        config: search settings; None for the defaults.
        bounds: limits of the actions; None for those of the published model.
    """

    def __init__(
        self, model: Dynamics, config: PlannerConfig | None = None, bounds: Bounds | None = None
    ) -> None:
        self.model = model
        self.config = config or PlannerConfig()
        self.bounds = bounds or Bounds(gripper_free=self.config.gripper_free)

    def cost(
        self,
        z_1ND: Tensor,
        state_1S: Tensor,
        goal_1ND: Tensor,
        actions_BKA: Tensor,
        past: Past | None = None,
    ) -> Tensor:
        """Return the energies [B] of action sequences; `past` is from the model's `remember`."""
        c, parts = self.config, []
        extra = () if past is None else (past,)
        for chunk in actions_BKA.to(z_1ND.device).split(c.chunk):
            imagined = self.model.unroll(z_1ND, state_1S, chunk, *extra)
            parts.append(plan_energy(imagined, goal_1ND, c.norm, c.over))
        return torch.cat(parts)

    @overload
    def plan(
        self, observation: Observation, goal_1ND: Tensor, memory: Memory | None = None
    ) -> tuple[Plan, Memory]: ...
    @overload
    def plan(
        self, observation: Tensor, goal_1ND: Tensor, memory: Tensor, generator: torch.Generator
    ) -> Plan: ...
    @torch.no_grad()
    def plan(
        self,
        observation: Observation | Tensor,
        goal_1ND: Tensor,
        memory: Memory | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Plan, Memory] | Plan:
        """Plan from an observation toward encoded goal tokens.

        The earlier form `plan(z_1ND, state_1S, goal_1ND, generator)` returns the plan alone.

        Args:
            observation: tokens and state of the present moment.
            goal_1ND: tokens of the goal image.
            memory: what the previous call of this episode returned; None at its beginning.
            generator: of the earlier form.

        Returns:
            The plan, and the memory for the next call.

        Raises:
            TypeError: neither form.
            EnergyError: the model returned an energy that is not finite.
        """
        if isinstance(observation, Observation) and not isinstance(memory, Tensor):
            return self._plan(observation, goal_1ND, memory or Memory.start())
        old = isinstance(observation, Tensor) and isinstance(memory, Tensor)
        if not old or generator is None or self.config.history > 1 or self.config.warm_start:
            raise TypeError(
                "Call plan, memory = planner.plan(Observation(z_1ND, state_1S), goal_1ND, memory)"
            )
        assert isinstance(observation, Tensor)
        assert isinstance(memory, Tensor)
        return self._plan(Observation(observation, goal_1ND), memory, Memory(generator))[0]

    def _plan(self, seen: Observation, goal_1ND: Tensor, memory: Memory) -> tuple[Plan, Memory]:
        c, last = self.config, memory.last
        past = self._past(last)

        def cost(actions_BKA: Tensor) -> Tensor:
            return self.cost(seen.z_1ND, seen.state_1S, goal_1ND, actions_BKA, past)

        x, y, z = seen.position_m or (float(v) for v in seen.state_1S[0, :3])
        bounds = replace(self.bounds, start_m=(x, y, z))
        warm = c.warm_start and last is not None and torch.equal(last.goal_1ND, goal_1ND)
        left_3 = last.left_3 if warm and last is not None else None
        plan, total_3 = self._solve(_Problem(cost, bounds, memory.generator, left_3))
        action_1A = plan.actions_KA[:1].to(seen.z_1ND.device)
        step = PlannedStep(seen, goal_1ND, action_1A, total_3 - plan.actions_KA[0, :3])
        return plan, replace(memory, last=step)

    def _past(self, last: PlannedStep | None) -> Past | None:
        if self.config.history == 1 or last is None:
            return None
        seen = last.observation
        return self.model.remember(
            seen.z_1ND[:, None], seen.state_1S[:, None], last.action_1A[:, None]
        )

    def _solve(self, problem: _Problem) -> tuple[Plan, Tensor]:
        """Return the plan, and the whole move [m] that it begins."""
        c, free = self.config, problem.bounds
        frozen = replace(problem, bounds=replace(free, gripper_free=False))
        direct = self._direct(frozen)
        total = direct.actions_KA[:, :3].sum(0)
        near = float(direct.actions_KA[0, :3].norm()) <= c.gate_m
        if not c.gate_m or near or self._gripper_helps(problem, direct):
            found = self._search(problem)
            return found, found.actions_KA[:, :3].sum(0)
        step = approach_step(total, free.max_step_m, c.approach_slope)
        first = torch.zeros(1, direct.actions_KA.shape[-1])
        first[0, :3] = frozen.bounds.inside(step)[0]
        return replace(direct, actions_KA=first), total

    def _gripper_helps(self, problem: _Problem, direct: Plan) -> bool:
        """Return whether the gripper should act now, before the rest of the way.

        It should when opening or closing at the present position is imagined to end nearer the
        goal than moving, and moving after it no worse than moving before it: fingers that close on
        their way down end on top of the object.
        """
        cost, bounds = problem.cost, problem.bounds
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
        self, problem: _Problem, horizon: int | None = None, steps: int | None = None
    ) -> Plan:
        """Search once; a warm start is spread evenly over `steps`."""
        horizon = horizon or self.config.horizon
        start_K4, spread = None, 1.0
        if problem.left_3 is not None:
            limit = problem.bounds.max_step_m
            start_K4, spread = torch.zeros(horizon, 4), WARM_SPREAD
            start_K4[:, :3] = (problem.left_3 / (steps or horizon)).clamp(-limit, limit)
        return self.config.optimiser.minimise(
            problem.cost,
            problem.bounds,
            problem.generator,
            horizon=horizon,
            start_K4=start_K4,
            spread=spread,
            deadline_s=self.config.deadline_s,
        )

    def _direct(self, problem: _Problem) -> Plan:
        """Plan one step; add equal steps while one alone is limited by the box."""
        plan = self._search(problem)
        for repeats in range(2, self.config.stretch + 1):
            longest = float(plan.actions_KA[0, :3].abs().max())
            if longest < AT_THE_LIMIT * problem.bounds.max_step_m:
                break

            def tied(actions_B1A: Tensor, repeats: int = repeats) -> Tensor:
                return problem.cost(actions_B1A.expand(-1, repeats, -1))

            one = self._search(replace(problem, cost=tied), horizon=1, steps=repeats)
            plan = replace(one, actions_KA=one.actions_KA.expand(repeats, -1))
        return plan
