"""Receding-horizon control over sub-goal images: plan, execute the first action, observe."""

from __future__ import annotations

import time

import numpy as np
from torch import Tensor

from planning.device_clock import clock
from planning.energy import energy
from planning.planner import Memory
from planning.policy import Policy
from planning.protocols import Decision, Reading, SubGoal

SETTLE_M = 0.006
"""A planned move below this [m] without a gripper command counts as settled at the sub-goal."""


class Budget:
    """Tracks the current sub-goal and advances when its step budget is spent or it is reached."""

    def __init__(self, goals: list[SubGoal], patience: int = 2) -> None:
        self.goals, self.patience = goals, patience
        self.index = self.spent = self.idle = 0

    @property
    def over(self) -> bool:
        """Whether all step budgets are spent."""
        return self.index >= len(self.goals)

    def tick(self, *, settled: bool) -> None:
        """Count a step; `patience` consecutive settled steps reach the sub-goal."""
        self.spent += 1
        self.idle = self.idle + 1 if settled else 0
        if self.spent >= self.goals[self.index].steps or self.idle >= self.patience:
            self.index, self.spent, self.idle = self.index + 1, 0, 0


class PlanningAgent:
    """Agent that plans toward each sub-goal in turn with a policy."""

    def __init__(self, policy: Policy, *, settle_m: float = SETTLE_M) -> None:
        self.policy, self.settle_m = policy, settle_m

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Encode the sub-goals of a new episode and seed the search."""
        self.memory = Memory.start(seed)
        self.budget = Budget(goals)
        self.goals: list[Tensor] = [self.policy.encode_goal(goal) for goal in goals]

    def act(self, observation: Reading) -> Decision | None:
        """Return the next action, or None if all step budgets are spent."""
        if self.budget.over:
            return None
        index = self.budget.index
        goal = self.goals[index]
        began = time.perf_counter()
        seen = self.policy.look(observation)
        encoded = clock(seen.z_1ND.device)
        plan, self.memory = self.policy.planner.plan(seen, goal, self.memory)
        planned = time.perf_counter()
        action = self.policy.to_arm(plan.actions_KA[:1]).cpu().numpy().astype(np.float32)[0]
        settled = bool(np.linalg.norm(action[:3]) < self.settle_m and action[-1] == 0)
        self.budget.tick(settled=settled)
        return Decision(
            action=action,
            sub_goal=index,
            energy=float(energy(seen.z_1ND, goal)[0]),
            imagined=plan.energy,
            seconds={"encode": encoded - began, "plan": planned - encoded},
            plan=plan.actions_KA.tolist(),
            model_calls=plan.calls,
            model_frames=plan.frames,
        )
