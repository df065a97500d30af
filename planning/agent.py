"""Receding horizon over sub-goal images: plan, carry out the first action, look again."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planning.energy import energy
from planning.planner import Planner
from planning.protocols import Decision, SubGoal


class Budget:
    """Which sub-goal is due: the next one when the budget is spent or nothing is left to do."""

    def __init__(self, goals: list[SubGoal], patience: int = 2) -> None:
        self.goals, self.patience = goals, patience
        self.index = self.spent = self.idle = 0

    @property
    def over(self) -> bool:
        """All budgets are spent."""
        return self.index >= len(self.goals)

    def tick(self, *, settled: bool) -> None:
        """Count a step; `settled` steps in a row mean that the sub-goal is reached."""
        self.spent += 1
        self.idle = self.idle + 1 if settled else 0
        if self.spent >= self.goals[self.index].steps or self.idle >= self.patience:
            self.index, self.spent, self.idle = self.index + 1, 0, 0


class PlanningAgent:
    """Plans in the latent space of a world model toward each sub-goal in turn."""

    def __init__(
        self, planner: Planner, *, settle_m: float = 0.006, axes: NDArray[np.float64] | None = None
    ) -> None:
        """`axes` [2, 2] turns planned x-y moves into the arm's (`calibrate axes`)."""
        self.planner, self.settle_m, self.axes = planner, settle_m, axes

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Encode the sub-goals of a new episode."""
        self.generator = torch.Generator().manual_seed(seed)
        self.budget = Budget(goals)
        model = self.planner.model
        self.goals: list[Tensor] = [model.encode(torch.tensor(g.image)[None]) for g in goals]

    def act(self, observation: dict[str, Any]) -> Decision | None:
        """Next action, or None when all budgets are spent."""
        if self.budget.over:
            return None
        index = self.budget.index
        goal = self.goals[index]
        began = time.perf_counter()
        z = self.planner.model.encode(torch.tensor(observation["image"])[None])
        state = torch.tensor(observation["state"], device=z.device)[None]
        encoded = time.perf_counter()
        plan = self.planner.plan(z, state, goal, self.generator)
        planned = time.perf_counter()
        planned_KA = plan.actions_KA.cpu().numpy().astype(np.float32)
        action = planned_KA[0].copy()
        if self.axes is not None:
            action[:2] = self.axes @ action[:2]
        settled = bool(np.linalg.norm(action[:3]) < self.settle_m and action[6] == 0)
        self.budget.tick(settled=settled)
        return Decision(
            action=action,
            sub_goal=index,
            energy=float(energy(z, goal)[0]),
            imagined=plan.energy,
            seconds={"encode": encoded - began, "plan": planned - encoded},
            plan=[[float(x) for x in row] for row in planned_KA],
        )
