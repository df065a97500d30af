"""What planning requires of a world model, an arm, a goal, an environment and an agent.

Planning imports none of the packages that provide them; anything with these attributes fits.

Shapes: B samples, T frames, N tokens, D width, K horizon, S state (7), A action (7), H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]
"""RGB picture [H, W, 3], 0..255."""
Reading = Mapping[str, NDArray[np.generic]]
"""What an environment or a robot observes: `image` uint8 [H, W, 3] and `state` [S]."""
Past = list[tuple[Tensor, Tensor]]
"""Keys and values of past frames in each of the dynamics' layers."""
StateFrame = Literal["flange", "tcp"]


class StateSpec(Protocol):
    """What a state means."""

    @property
    def state_frame(self) -> StateFrame:
        """Point of the arm whose pose the state describes."""

    @property
    def state_dim(self) -> int:
        """Length of the state."""


class MotionSpec(Protocol):
    """What an action means."""

    @property
    def action_dim(self) -> int:
        """Length of an action."""

    @property
    def period_s(self) -> float:
        """Duration of one action [s]."""

    @property
    def max_step_m(self) -> float:
        """Largest change of position per action and axis [m]."""


class ArmSpec(StateSpec, MotionSpec, Protocol):
    """What an arm declares about its states and actions; `robot.arm.ArmSpec` fits."""


class ObservationSpec(StateSpec, Protocol):
    """What a model expects to see; `worldmodel.specs.ObservationSpec` fits."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that `encode` takes [px]."""


class ActionSpec(MotionSpec, Protocol):
    """What a model's actions mean; `worldmodel.specs.ActionSpec` fits."""

    @property
    def gripper(self) -> Literal["difference", "command"]:
        """Meaning of the last number: a change of closedness, or -1 open, 0 keep, +1 close."""


class Dynamics(Protocol):
    """Imagines the tokens that actions lead to."""

    def unroll(
        self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor, past: Past | None = None
    ) -> Tensor:
        """Return imagined tokens [B, K, N, D]; tokens and state of batch 1 are shared."""

    def remember(self, frames_1TND: Tensor, states_1TS: Tensor, actions_1TA: Tensor) -> Past:
        """Return `unroll`'s `past` for T frames before the present one."""


class WorldModel(Dynamics, Protocol):
    """Turns images into tokens and imagines the tokens that actions lead to."""

    @property
    def observation_spec(self) -> ObservationSpec:
        """What the model expects to see."""

    @property
    def action_spec(self) -> ActionSpec:
        """What the model's actions mean."""

    def preprocess(self, frames_HWC: Tensor) -> Tensor:
        """Resize RGB uint8 frames [..., H, W, 3] of any size to the model's image size."""

    def encode(self, frames_BHWC: Tensor) -> Tensor:
        """Return normalised tokens [B, N, D] of RGB uint8 frames at the model's image size."""

    def convert_state(self, state_BS: Tensor, frame: StateFrame) -> Tensor:
        """Express states that describe `frame` in the model's own state frame."""


class SubGoal(Protocol):
    """A goal image and the number of steps allowed to reach it."""

    @property
    def name(self) -> str:
        """Name of the sub-goal."""

    @property
    def image(self) -> Image:
        """RGB uint8 [H, W, 3]."""

    @property
    def state(self) -> NDArray[np.float32]:
        """Robot state at which the image was taken [7]."""

    @property
    def steps(self) -> int:
        """Step budget."""


@dataclass(frozen=True)
class Decision:
    """An agent's next action and the figures behind it."""

    action: NDArray[np.float32]
    """Action [7]: m, rad, gripper."""
    sub_goal: int
    """Index of the sub-goal that the action approaches."""
    energy: float = float("nan")
    """Energy of the present frame against the sub-goal."""
    imagined: float = float("nan")
    """Energy of the plan's imagined end."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each part [s]: encode, plan."""
    plan: list[list[float]] = field(default_factory=list)
    """All planned actions, in the model's axes."""


class Agent(Protocol):
    """Chooses actions toward sub-goals."""

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Start a new episode with these sub-goals."""

    def act(self, observation: Reading) -> Decision | None:
        """Return the next action, or None when all step budgets are spent."""
