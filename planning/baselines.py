"""What any planner must beat: doing nothing, chance, and copying the goal picture's robot pose."""

from __future__ import annotations

from typing import Any

import numpy as np

from planning.agent import Budget
from planning.errors import PlanError
from planning.protocols import Agent, Decision, SubGoal


class Hold:
    """Does nothing."""

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Take the budgets."""
        self.budget = Budget(goals, patience=10**9)
        self.rng = np.random.default_rng(seed)

    def choose(self, observation: dict[str, Any], goal: SubGoal) -> np.ndarray:
        """Action toward one sub-goal."""
        return np.zeros(7)

    def act(self, observation: dict[str, Any]) -> Decision | None:
        """Next action, or None when all budgets are spent."""
        if self.budget.over:
            return None
        index = self.budget.index
        action = self.choose(observation, self.budget.goals[index])
        settled = bool(np.linalg.norm(action[:3]) < 0.006 and action[6] == 0)
        self.budget.tick(settled=settled)
        return Decision(action=action.astype(np.float32), sub_goal=index)


class Random(Hold):
    """Uniform moves inside the action box, random gripper commands."""

    def choose(self, observation: dict[str, Any], goal: SubGoal) -> np.ndarray:
        """A random action."""
        move = self.rng.uniform(-0.075, 0.075, 3)
        return np.array([*move, 0, 0, 0, self.rng.choice([-1.0, 0.0, 1.0])])


class PoseOnly(Hold):
    """Servo to the goal picture's robot pose, then its gripper; blind to the object.

    It reads the pose that the picture was taken at, which no planner is given.
    """

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Take the budgets; move on when the pose is reached."""
        super().begin(goals, seed)
        self.budget.patience = 2

    def choose(self, observation: dict[str, Any], goal: SubGoal) -> np.ndarray:
        """Straight toward the pose; the gripper when within 1 cm."""
        state = np.asarray(observation["state"], dtype=np.float64)
        move = np.clip(goal.state[:3] - state[:3], -0.075, 0.075)
        change = float(goal.state[6]) - state[6]
        grip = np.sign(change) if abs(change) > 0.15 and np.linalg.norm(move) < 0.01 else 0.0
        return np.array([*move, 0, 0, 0, grip])


BASELINES: dict[str, type[Hold]] = {"hold": Hold, "random": Random, "pose_only": PoseOnly}


def make_baseline(name: str) -> Agent:
    """Make a baseline by name.

    Raises:
        PlanError: unknown name.
    """
    if name not in BASELINES:
        raise PlanError(f"Unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    return BASELINES[name]()
