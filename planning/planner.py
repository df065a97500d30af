"""Plan from one observation by searching for actions whose predicted outcome matches the goal.

Shapes: B samples, K horizon, N tokens, D width, S state, A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self, overload

import torch
from torch import Tensor

from planning.action_searches import ActionProblem, ActionSearches
from planning.approach import approach_step
from planning.bounds import Bounds
from planning.errors import PlanError
from planning.hierarchy import Hierarchy, HierarchyConfig, Queue
from planning.plan_cost import PlanCost
from planning.protocols import Dynamics, Past
from planning.ranges import between, check_fields
from planning.solvers.cem import CEM
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.search import Plan, Solver

AT_THE_LIMIT = 0.95
"""Fraction of the box above which a step counts as limited by it."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Search settings of a planner."""

    optimiser: Solver = field(
        default_factory=lambda: CEM(num_samples=150, iterations=4, num_elites=12)
    )
    """Search algorithm and its settings."""
    horizon: int = field(default=1, metadata=between(1, 16))
    """Planning horizon in actions."""
    stretch: int = field(default=3, metadata=between(1, 16))
    """Maximum number of equal steps planned toward a goal beyond the reach of one step. A single
    clipped step would bend the path, since its free axes compensate for the clipped one."""
    approach_slope: float = field(default=1.0, metadata=between(0, 100))
    """Height above the goal per lateral distance during the descent; 0 descends in a straight line.
    Fingers that approach low from the side knock the object over."""
    norm: Literal["l1", "l2"] = "l1"
    """Distance between tokens: mean absolute or mean squared difference."""
    over: Literal["final", "sum"] = "final"
    """Compare the goal with the final predicted frame, or average over all frames."""
    chunk: int = field(default=1024, metadata=between(1, 1_000_000))
    """Number of samples evaluated at once, which bounds the memory."""
    gripper_free: bool = True
    """Whether to plan the gripper; if False, every plan leaves it unchanged."""
    gate_m: float = field(default=0.025, metadata=between(0, 10, "m"))
    """Plan the gripper only if the planned move is shorter than this [m], or if operating the
    gripper alone lowers the energy more than moving; 0 always plans it. Without this gate the
    gripper closes too early."""
    deadline_s: float | None = field(default=None, metadata=between(0, 3600, "s"))
    """Time limit of each search [s], after which the best plan so far is used; None for no
    limit."""
    history: int = field(default=1, metadata=between(1, 2))
    """Number of context frames: 1 is the current frame only, 2 includes the previous frame and the
    action planned there."""
    together: bool = False
    """Run all searches of an action in one batch of a `DeviceCEM`, also those that may turn out to
    be unneeded. It saves time on a device that is faster than its launches, and gives the plans of
    one search after another unless `min_spread_m` or `deadline_s` ends searches early."""
    warm_start: bool = False
    """Start each search from the remainder of the previous plan toward the same goal, with half the
    spread."""

    hierarchy: HierarchyConfig | None = None
    """Search on two levels instead, with its own settings; None searches single actions."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            PlanError: A value is out of its range, or `together` is set for another optimiser.
        """
        check_fields(self)
        if self.together and not isinstance(self.optimiser, DeviceCEM):
            raise PlanError(
                f"together=True needs optimiser=DeviceCEM(...), which searches in one batch; it is "
                f"{type(self.optimiser).__name__}. Leave together out."
            )


@dataclass(frozen=True)
class Observation:
    """An encoded camera frame and the robot state at the same time."""

    z_1ND: Tensor
    """Tokens of the frame."""
    state_1S: Tensor
    """State in the model's state frame."""
    position_m: tuple[float, float, float] | None = None
    """Position (x, y, z) relative to which workspace limits apply; None uses the state's."""


@dataclass(frozen=True)
class PlannedStep:
    """Observation and plan of the previous step."""

    observation: Observation
    goal_1ND: Tensor
    action_1A: Tensor
    """First action of the plan."""
    left_3: Tensor
    """Remainder of the planned move after that action [m]."""


@dataclass(frozen=True)
class Memory:
    """Planner state of an episode, which the caller passes from call to call."""

    generator: torch.Generator
    """Random generator of the episode, advanced by every plan."""
    last: PlannedStep | None = None
    """Previous step; None at the start of an episode."""
    queue: Queue | None = None
    """Rest of a plan on two levels; None without one."""

    @classmethod
    def start(cls, seed: int = 0) -> Self:
        """Return the memory of a new episode."""
        return cls(torch.Generator().manual_seed(seed))


class Planner:
    """Searches for actions whose predicted outcome matches the goal.

    Args:
        model: Predicts the outcome of actions.
        config: Search settings; None for the defaults.
        bounds: Limits of the actions; None for those of the published model.
    """

    def __init__(
        self, model: Dynamics, config: PlannerConfig | None = None, bounds: Bounds | None = None
    ) -> None:
        self.model = model
        self.config = config or PlannerConfig()
        self.bounds = bounds or Bounds(gripper_free=self.config.gripper_free)
        levels = self.config.hierarchy
        self.hierarchy = None if levels is None else Hierarchy(model, levels)  # type: ignore[arg-type]

    def cost(
        self,
        z_1ND: Tensor,
        state_1S: Tensor,
        goal_1ND: Tensor,
        actions_BKA: Tensor,
        past: Past | None = None,
    ) -> Tensor:
        """Return the energies [B] of action sequences; `past` comes from the model's `remember`."""
        return self._cost(Observation(z_1ND, state_1S), goal_1ND, past)(actions_BKA)

    def _cost(self, seen: Observation, goal_1ND: Tensor, past: Past | None) -> PlanCost:
        c = self.config
        return PlanCost(
            model=self.model,
            z_1ND=seen.z_1ND,
            state_1S=seen.state_1S,
            goal_1ND=goal_1ND,
            past=past,
            norm=c.norm,
            over=c.over,
            chunk=c.chunk,
        )

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
            observation: Current tokens and state.
            goal_1ND: Tokens of the goal image.
            memory: Memory returned by the previous call; None at the start of an episode.
            generator: Random generator of the earlier form.

        Returns:
            The plan, and the memory for the next call.

        Raises:
            TypeError: The arguments match neither form.
            EnergyError: The model returned an energy that is not finite.
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
        x, y, z = seen.position_m or seen.state_1S[0, :3].tolist()
        bounds = replace(self.bounds, start_m=(x, y, z))
        if self.hierarchy is not None:
            plan, queue = self.hierarchy.next_actions(
                seen.z_1ND, seen.state_1S, goal_1ND, bounds, memory.generator, memory.queue
            )
            return plan, replace(memory, queue=queue)
        cost = self._cost(seen, goal_1ND, self._past(last))
        warm = c.warm_start and last is not None and torch.equal(last.goal_1ND, goal_1ND)
        left_3 = last.left_3 if warm and last is not None else None
        plan, total_3 = self._solve(ActionProblem(cost, bounds, memory.generator, left_3))
        plan = replace(plan, calls=cost.tally.calls, frames=cost.tally.frames)
        step = PlannedStep(seen, goal_1ND, plan.actions_KA[:1], total_3 - plan.actions_KA[0, :3])
        return plan, replace(memory, last=step)

    def _past(self, last: PlannedStep | None) -> Past | None:
        if self.config.history == 1 or last is None:
            return None
        seen = last.observation
        actions_11A = last.action_1A[:, None].to(seen.z_1ND.device)
        return self.model.remember(seen.z_1ND[:, None], seen.state_1S[:, None], actions_11A)

    def _solve(self, problem: ActionProblem) -> tuple[Plan, Tensor]:
        """Return the plan and the whole move [m] of which it is the first part."""
        c, searches = self.config, self._searches(problem)
        direct = self._direct(searches)
        total = direct.actions_KA[:, :3].sum(0)
        near = float(direct.actions_KA[0, :3].norm()) <= c.gate_m
        if not c.gate_m or near or self._gripper_helps(problem, direct):
            found = searches.plan(gripper=True)
            return found, found.actions_KA[:, :3].sum(0)
        step = approach_step(total, problem.bounds.max_step_m, c.approach_slope)
        first = torch.zeros(1, direct.actions_KA.shape[-1])
        first[0, :3] = searches.frozen.inside(step)[0]
        return replace(direct, actions_KA=first), total

    def _gripper_helps(self, problem: ActionProblem, direct: Plan) -> bool:
        """Return whether the gripper should act now, before the remaining motion.

        It should if operating it at the current position is predicted to end nearer the goal than
        moving, and moving afterwards is no worse than moving first. Otherwise fingers that close
        during the descent end on top of the object.
        """
        cost, bounds = problem.cost, problem.bounds
        if not bounds.gripper_free:
            return False
        on_the_spot = torch.zeros(2, 1, 4)
        on_the_spot[:, 0, 3] = torch.tensor([-1.0, 1.0])
        grips_21A, move_KA = bounds.full(on_the_spot), direct.actions_KA
        orders = [(grip_1A[None], move_KA) for grip_1A in grips_21A[:, 0]]
        orders += [(move_KA, grip_1A[None]) for grip_1A in grips_21A[:, 0]]
        # one roll-out tells all: its first step the grip alone, its last but one the move alone
        whole_4KA = torch.stack([torch.cat(order) for order in orders])
        energies_4K = cost.by_step(whole_4KA).cpu()
        grip = int(energies_4K[:2, 0].argmin())
        if float(energies_4K[grip, 0]) >= float(energies_4K[2, -2]):
            return False
        return bool(energies_4K[grip, -1] <= energies_4K[2 + grip, -1])

    def _searches(self, problem: ActionProblem) -> ActionSearches:
        c = self.config
        searches = ActionSearches(problem, c.optimiser, horizon=c.horizon, deadline_s=c.deadline_s)
        if c.together and isinstance(c.optimiser, DeviceCEM):
            searches.run_together(c.stretch, c.optimiser)
        return searches

    def _direct(self, searches: ActionSearches) -> Plan:
        """Plan one step, and add equal steps while a single one is limited by the box."""
        plan = searches.plan()
        for repeats in range(2, self.config.stretch + 1):
            longest = float(plan.actions_KA[0, :3].abs().max())
            if longest < AT_THE_LIMIT * searches.frozen.max_step_m:
                break
            one = searches.plan(repeats)
            plan = replace(one, actions_KA=one.actions_KA.expand(repeats, -1))
        return plan
