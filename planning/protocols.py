"""What planning asks of a world model, a goal, an environment and an agent.

Shapes: B samples, N tokens, D width, K horizon, S state (7), A action (7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class WorldModel(Protocol):
    """Frames to tokens, actions to imagined tokens."""

    def encode(self, frames_BHWC: Any) -> Tensor:
        """RGB uint8 frames -> normalised tokens [B, N, D]."""
        ...

    def unroll(self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor) -> Tensor:
        """Imagined tokens [B, K, N, D]; batch 1 of tokens and state is shared."""
        ...


class SubGoal(Protocol):
    """A picture to get to."""

    @property
    def name(self) -> str:
        """What the sub-goal is called."""
        ...

    @property
    def image(self) -> NDArray[np.uint8]:
        """RGB uint8 [H, W, 3]."""
        ...

    @property
    def state(self) -> NDArray[np.float32]:
        """Robot state in the picture [7]."""
        ...

    @property
    def steps(self) -> int:
        """Step budget."""
        ...


@dataclass(frozen=True)
class Decision:
    """An agent's next action and how it came about."""

    action: NDArray[np.float32]
    """[7]: m, rad, gripper."""
    sub_goal: int
    energy: float = float("nan")
    """Of the frame now, against the sub-goal."""
    imagined: float = float("nan")
    """Of the plan's end."""
    seconds: dict[str, float] = field(default_factory=dict)
    plan: list[list[float]] = field(default_factory=list)
    """All planned actions, in the model's axes."""


class Agent(Protocol):
    """Chooses actions toward sub-goals."""

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Take the sub-goals of a new episode."""
        ...

    def act(self, observation: dict[str, Any]) -> Decision | None:
        """Next action, or None when all budgets are spent."""
        ...
