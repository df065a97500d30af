"""The independent searches of one action: by number of equal steps, and with the gripper.

Shapes: K horizon, 4 = planned numbers (x, y, z, gripper).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.plan_cost import PlanCost
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


class ActionSearches:
    """The searches of an action, run when they are needed, or all together.

    Args:
        problem: the action's problem.
        optimiser: search algorithm.
        horizon: planning horizon in actions.
        stretch: maximum number of equal steps.
        deadline_s: time limit of each search [s]; None for no limit.
        together: whether to run all searches at once, in the order of their random draws.
    """

    def __init__(
        self,
        problem: ActionProblem,
        optimiser: Solver,
        *,
        horizon: int,
        stretch: int,
        deadline_s: float | None,
        together: bool,
    ) -> None:
        self.problem, self.optimiser, self.horizon = problem, optimiser, horizon
        self.deadline_s = deadline_s
        self.frozen = replace(problem.bounds, gripper_free=False)
        self.plans: dict[tuple[int, bool], Plan] = {}
        if together:
            kinds = [(repeats, False) for repeats in range(1, stretch + 1)]
            self._run(kinds + ([(1, True)] if problem.bounds.gripper_free else []))

    def _run(self, kinds: list[tuple[int, bool]]) -> None:
        problems = [self._search(*kind) for kind in kinds]
        found = self.optimiser.minimise_all(problems, deadline_s=self.deadline_s)
        self.plans |= dict(zip(kinds, found, strict=True))

    def plan(self, repeats: int = 1, *, gripper: bool = False) -> Plan:
        """Return the plan of a sequence of actions, or of one action that is repeated.

        Args:
            repeats: number of times; 1 plans the whole horizon.
            gripper: whether the gripper is planned, if the bounds allow it.
        """
        kind = repeats, gripper
        if kind not in self.plans:
            self._run([kind])
        return self.plans[kind]

    def _search(self, repeats: int, gripper: bool) -> Problem:
        """Return a search, with a warm start spread evenly over its steps."""
        problem, horizon = self.problem, 1 if repeats > 1 else self.horizon
        mean_K4, spread = torch.zeros(horizon, 4), 1.0
        if problem.left_3 is not None:
            limit, spread = problem.bounds.max_step_m, WARM_SPREAD
            mean_K4[:, :3] = (problem.left_3 / max(repeats, horizon)).clamp(-limit, limit)
        return Problem(
            cost=replace(problem.cost, repeats=repeats),
            bounds=problem.bounds if gripper else self.frozen,
            generator=problem.generator,
            mean_K4=mean_K4,
            spread=spread,
        )
