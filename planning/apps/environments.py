"""Open the environment that `environment=` names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs.goals import SubGoal
from envs.gym_env import GymGoalEnv
from planning.errors import PlanError
from planning.plugins import is_reference, load, registered
from planning.protocols import Box, Reading
from robot.arm import ArmSpec

NEEDED = ("reset", "step", "sub_goals", "play", "close")
"""Methods of an environment with goal images."""


class GoalEnvironment(Protocol):
    """A Gymnasium environment with goal images; `envs.gym_env.GymGoalEnv` implements it."""

    @property
    def arm_spec(self) -> ArmSpec:
        """Conventions of states and actions."""

    @property
    def box_m(self) -> Box | None:
        """Workspace of planned positions; None for no limit."""

    def reset(self, *, seed: int | None = None) -> tuple[Reading, dict[str, Any]]:
        """Start an episode; return an observation with `image` and `state`, and `info`."""

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Reading, float, bool, bool, dict[str, Any]]:
        """Carry out an action; `info` has `success` and `error_m`."""

    def sub_goals(self, variant: str = "default") -> list[SubGoal]:
        """Return the goal images of the episode that has just begun."""

    def play(self, rng: np.random.Generator) -> Iterator[NDArray[Any]]:
        """Yield actions without end for recording data."""

    def close(self) -> None:
        """Close the environment."""


def open_environment(name: str, image_size: int) -> GoalEnvironment:
    """Open an environment.

    Args:
        name: A registered name, the user's `module:Class`, or a registered Gymnasium id. A class
            without goal images is wrapped in `GymGoalEnv`.
        image_size: Side of the square images [px].

    Raises:
        PlanError: The environment cannot be loaded or created.
    """
    if not (is_reference(name) or name in registered("environment")):
        return GymGoalEnv(_made(name), image_size=image_size)
    make = load("environment", name)
    if not callable(make):
        raise PlanError(f"environment={name} is not a class or function. Name one of them.")
    if all(hasattr(make, method) for method in NEEDED):
        opened: GoalEnvironment = make(image_size=image_size)
        return opened
    try:
        plain = make(render_mode="rgb_array")
    except TypeError as error:
        raise PlanError(
            f"environment={name} cannot be created ({error}). It must take render_mode='rgb_array'."
        ) from error
    if not isinstance(plain, gymnasium.Env):
        raise PlanError(
            f"environment={name} gives {type(plain).__name__}, which is not a gymnasium.Env. Name "
            "a class of that kind."
        )
    return GymGoalEnv(plain, image_size=image_size)


def _made(name: str) -> gymnasium.Env[Any, Any]:
    """Create a registered Gymnasium environment."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # an id may name a module of the user's
    try:
        return gymnasium.make(name, render_mode="rgb_array")
    except Exception as error:  # an environment's own code can raise anything
        raise PlanError(
            f"environment={name} cannot be created ({type(error).__name__}: {error}). Name a "
            "registered environment (`worldmodel plugins`), your own as module:Class, or a "
            "Gymnasium id."
        ) from error
