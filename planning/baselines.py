"""Baseline agents: no motion, random motion, and motion to the goal image's robot pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planning.agent import SETTLE_M, Budget
from planning.bounds import GRIPPER_DEAD_BAND, MAX_STEP_M
from planning.errors import PlanError
from planning.protocols import Agent, Decision, Reading, SubGoal

NEAR_M = 0.01
"""Distance [m] within which the pose-only baseline moves the gripper."""


class Hold:
    """Agent that does not move.

    Args:
        max_step_m: Maximum change of position per action and axis [m], from the arm or the model.
        action_dim: Numbers of an action: 7, or 4 without rotation.
    """

    def __init__(self, max_step_m: float = MAX_STEP_M, action_dim: int = 7) -> None:
        self.max_step_m, self.action_dim = max_step_m, action_dim

    def action(self, move_3: ArrayLike, grip: float) -> NDArray[np.float64]:
        """Return an action [A] of a change of position [3, m] and a gripper command."""
        return np.array([*np.asarray(move_3), *[0.0] * (self.action_dim - 4), grip])

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Start a new episode, in which every sub-goal uses its whole budget."""
        self.budget = Budget(goals, patience=10**9)
        self.rng = np.random.default_rng(seed)

    def choose(self, observation: Reading, goal: SubGoal) -> NDArray[np.float64]:
        """Return the action [A] toward a sub-goal."""
        return np.zeros(self.action_dim)

    def act(self, observation: Reading) -> Decision | None:
        """Return the next action, or None if all step budgets are spent."""
        if self.budget.over:
            return None
        index = self.budget.index
        action = self.choose(observation, self.budget.goals[index])
        settled = bool(np.linalg.norm(action[:3]) < SETTLE_M and action[-1] == 0)
        self.budget.tick(settled=settled)
        return Decision(action=action.astype(np.float32), sub_goal=index)


class Random(Hold):
    """Agent with uniform random moves inside the action box and random gripper commands."""

    def choose(self, observation: Reading, goal: SubGoal) -> NDArray[np.float64]:
        """Return a random action [A]."""
        move = self.rng.uniform(-self.max_step_m, self.max_step_m, 3)
        return self.action(move, float(self.rng.choice([-1.0, 0.0, 1.0])))


class PoseOnly(Hold):
    """Agent that moves straight to the goal image's robot pose, then operates the gripper.

    It ignores the object, and uses the pose at which the image was taken, which planners never
    receive.
    """

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Start a new episode, in which a sub-goal ends when its pose is reached."""
        super().begin(goals, seed)
        self.budget.patience = 2

    def choose(self, observation: Reading, goal: SubGoal) -> NDArray[np.float64]:
        """Return a step toward the pose, with a gripper command within 1 cm of it."""
        state = np.asarray(observation["state"], dtype=np.float64)
        move = np.clip(goal.state[:3] - state[:3], -self.max_step_m, self.max_step_m)
        change = float(goal.state[-1]) - state[-1]
        arrived = abs(change) > GRIPPER_DEAD_BAND and np.linalg.norm(move) < NEAR_M
        return self.action(move, float(np.sign(change)) if arrived else 0.0)


BASELINES: dict[str, type[Hold]] = {"hold": Hold, "random": Random, "pose_only": PoseOnly}


def make_baseline(name: str, max_step_m: float = MAX_STEP_M, action_dim: int = 7) -> Agent:
    """Create a baseline by name for actions of `action_dim` numbers, at most `max_step_m` per axis.

    Raises:
        PlanError: Unknown name; the message lists the known ones.
    """
    if name not in BASELINES:
        raise PlanError(f"Unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    return BASELINES[name](max_step_m, action_dim)
