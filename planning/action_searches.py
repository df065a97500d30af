"""The independent searches of one action: by number of equal steps, and with the gripper.

Shapes: K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.plan_cost import PlanCost
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.search import Plan, Problem, Solver

WARM_SPREAD = 0.5
"""Standard deviation of the first samples after a warm start, in half widths of the box."""


@dataclass(frozen=True)
class ActionProblem:
    """A planning problem: the energy of actions and the start of the search."""

    cost: PlanCost
    bounds: Bounds
    generator: torch.Generator
    left_3: Tensor | None
    """Remainder of the previous plan's move [m]; None for no warm start."""


@dataclass(frozen=True)
class FoundAhead:
    """A plan that was searched before it was known to be needed."""

    plan: Plan
    before: Tensor
    """State of the random generator at the start of the search."""
    after: Tensor
    """State of the random generator at its end."""


class ActionSearches:
    """The searches of an action, run when they are needed, or in one batch.

    Both give the same plans and leave the random generator in the same state. In a batch, each
    search has the random numbers that it would draw when it is needed: a longer one those after
    the shorter ones, the gripper's those after the first search. If the gripper is planned after
    longer searches instead, it is searched again by itself.

    Args:
        problem: The action's problem.
        optimiser: Search algorithm.
        horizon: Planning horizon in actions.
        deadline_s: Time limit of each search [s]; None for no limit.
    """

    def __init__(
        self, problem: ActionProblem, optimiser: Solver, *, horizon: int, deadline_s: float | None
    ) -> None:
        self.problem, self.optimiser, self.horizon = problem, optimiser, horizon
        self.deadline_s = deadline_s
        self.frozen = replace(problem.bounds, gripper_free=False)
        self.ahead: dict[tuple[int, bool], FoundAhead] = {}

    def run_together(self, stretch: int, optimiser: DeviceCEM) -> None:
        """Search for all plans of up to `stretch` equal steps, and with the gripper, in a batch."""
        drawn, searches = _copied(self.problem.generator), {}
        for repeats in range(1, stretch + 1):
            searches[repeats, False] = self._search(repeats, False, _copied(drawn))
            optimiser.draw(self._search(repeats, False, drawn))
            if repeats == 1:
                searches[1, True] = self._search(1, True, _copied(drawn))
        before = [search.generator.get_state() for search in searches.values()]
        plans = optimiser.minimise_all([*searches.values()], deadline_s=self.deadline_s)
        for (kind, search), start, plan in zip(searches.items(), before, plans, strict=True):
            self.ahead[kind] = FoundAhead(plan, start, search.generator.get_state())

    def plan(self, repeats: int = 1, *, gripper: bool = False) -> Plan:
        """Return the plan of a sequence of actions, or of one action that is repeated.

        Args:
            repeats: Number of times; 1 plans the whole horizon.
            gripper: Whether the gripper is planned, if the bounds allow it.
        """
        generator = self.problem.generator
        found = self.ahead.get((repeats, gripper))
        if found is not None and torch.equal(found.before, generator.get_state()):
            generator.set_state(found.after)
            return found.plan
        search = self._search(repeats, gripper, generator)
        return self.optimiser.minimise_all([search], deadline_s=self.deadline_s)[0]

    def _search(self, repeats: int, gripper: bool, generator: torch.Generator) -> Problem:
        """Return a search, with a warm start spread evenly over its steps."""
        problem, horizon = self.problem, 1 if repeats > 1 else self.horizon
        mean_K4, spread = torch.zeros(horizon, 4), 1.0
        if problem.left_3 is not None:
            limit, spread = problem.bounds.max_step_m, WARM_SPREAD
            mean_K4[:, :3] = (problem.left_3 / max(repeats, horizon)).clamp(-limit, limit)
        return Problem(
            cost=replace(problem.cost, repeats=repeats),
            bounds=problem.bounds if gripper else self.frozen,
            generator=generator,
            mean_K4=mean_K4,
            spread=spread,
        )


def _copied(generator: torch.Generator) -> torch.Generator:
    """Return a generator that draws the same numbers."""
    copy = torch.Generator(generator.device)
    copy.set_state(generator.get_state())
    return copy
