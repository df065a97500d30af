"""Protocols of the world models, arms, goals, environments and agents used in planning.

Planning imports none of the packages that implement them.

Shapes: B samples, T frames, N tokens, D width, K horizon, S state (7), A action (7), H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planning.skill_record import SkillRecord

if TYPE_CHECKING:  # a robot's machine whose plans come from a server has no torch
    from torch import Tensor

Image = NDArray[np.uint8]
"""RGB image [H, W, 3], 0..255."""
Reading = Mapping[str, NDArray[np.generic]]
"""Observation of an environment or robot: `image` uint8 [H, W, 3] and `state` [S]; images of
further cameras have the name of `view_key`."""
Past: TypeAlias = "list[tuple[Tensor, Tensor]]"
"""Keys and values of past frames for each layer of the dynamics."""
Point = tuple[float, float, float]
Box = tuple[Point, Point]
"""Lower and upper corner (x, y, z) [m]."""
StateFrame = Literal["flange", "tcp"]


def view_key(camera: str) -> str:
    """Return the name of the image of a camera beside the main one in an observation."""
    return f"image_{camera}"


class StateSpec(Protocol):
    """Conventions of a state."""

    @property
    def state_frame(self) -> StateFrame:
        """Point of the arm whose pose the state describes."""

    @property
    def state_dim(self) -> int:
        """Length of the state."""


class MotionSpec(Protocol):
    """Conventions of an action."""

    @property
    def action_dim(self) -> int:
        """Length of an action."""

    @property
    def period_s(self) -> float:
        """Duration of one action [s]."""

    @property
    def max_step_m(self) -> float:
        """Maximum change of position per action and axis [m]."""


class ArmSpec(StateSpec, MotionSpec, Protocol):
    """State and action conventions of an arm; `robot.arm.ArmSpec` implements it."""

    @property
    def gripper(self) -> Literal["command", "difference", "none"]:
        """Meaning of the gripper action; none for an arm without a gripper."""

    @property
    def camera(self) -> str | None:
        """Name of the simulated camera that shows the arm; None where people place one."""


class ObservationSpec(StateSpec, Protocol):
    """Observation conventions of a model; `worldmodel.specs.ObservationSpec` implements it."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of `encode`'s input images [px]."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras whose images the model was trained on, the main one first."""


class ActionSpec(MotionSpec, Protocol):
    """Action conventions of a model; `worldmodel.specs.ActionSpec` implements it."""

    @property
    def gripper(self) -> Literal["difference", "command"]:
        """Meaning of the last component: change of closedness, or -1 open, 0 keep, +1 close."""


class Dynamics(Protocol):
    """Predicts the tokens that result from actions."""

    def unroll(
        self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor, past: Past | None = None
    ) -> Tensor:
        """Return predicted tokens [B, K, N, D]; tokens and state of batch 1 are broadcast."""

    def remember(self, frames_1TND: Tensor, states_1TS: Tensor, actions_1TA: Tensor) -> Past:
        """Return the `past` of `unroll` for T frames before the current one."""


class WorldModel(Dynamics, Protocol):
    """Encodes images to tokens and predicts the tokens that result from actions."""

    @property
    def observation_spec(self) -> ObservationSpec:
        """Observation conventions of the model."""

    @property
    def action_spec(self) -> ActionSpec:
        """Action conventions of the model."""

    def preprocess(self, frames_HWC: Tensor) -> Tensor:
        """Resize RGB uint8 frames [..., H, W, 3] of any size to the model's image size."""

    def encode(self, frames_BHWC: Tensor) -> Tensor:
        """Return normalised tokens [B, N, D] of RGB uint8 frames at the model's image size.

        Frames of a model of several views are [B, V, H, W, 3].
        """

    def encode_main(self, frames_BHWC: Tensor) -> Tensor:
        """Return the first tokens of `encode`, of frames of the main view alone."""

    def convert_state(self, state_BS: Tensor, frame: StateFrame) -> Tensor:
        """Convert states of `frame` to the model's state frame."""


class Macro(Protocol):
    """Slow dynamics of macro-actions; `worldmodel.models.macro.MacroDynamics` implements it."""

    @property
    def span(self) -> int:
        """Number of actions of a macro-action."""

    @property
    def max_steps(self) -> int:
        """Maximum number of macro-actions in a row."""

    @property
    def sequences_QLA(self) -> Tensor:  # noqa: N802 - a shape suffix
        """Recorded sequences of actions; the first one does nothing."""

    def encode_actions(self, actions_BLA: Tensor) -> Tensor:
        """Encode sequences of `span` actions to codes [B, C] within +-1."""

    def unroll(self, z_BND: Tensor, codes_BMC: Tensor) -> Tensor:
        """Predict the tokens [B, M, N, D] after each macro-action."""


class HierarchicalModel(Dynamics, Protocol):
    """Dynamics that may have macro-actions."""

    @property
    def macro(self) -> Macro | None:
        """Slow dynamics; None in a model without one."""


class ObjectPose(Protocol):
    """Decoded object poses of B frames in M slots; a model's `ObjectPose` implements it."""

    @property
    def position_m(self) -> Tensor:
        """Centres of the objects [B, M, 3] in the robot base frame [m]."""

    @property
    def yaw_rad(self) -> Tensor:
        """Rotations [B, M] about the vertical, modulo pi, within +-pi/2 [rad]."""

    @property
    def yaw_certainty(self) -> Tensor:
        """Certainty [B, M] of the yaw, 0 to 1; near 0 for objects whose yaw is ambiguous."""

    @property
    def presence(self) -> Tensor:
        """Probability [B, M] of the slot over that of the frame's most probable slot, 0 to 1."""


class ObjectLocator(Protocol):
    """Decodes object poses from tokens; a world model with an object head implements it."""

    def locate(self, z_BND: Tensor) -> ObjectPose | None:
        """Decode encoded or predicted tokens [B, N, D]; None if the model has no object head."""

    def locate_at_home(self, z_BND: Tensor) -> ObjectPose | None:
        """Decode encoded frames in which the arm is at its start pose, as `locate` or better."""


class SkillModel(WorldModel, ObjectLocator, Protocol):
    """World model for long roll-outs; it may have an object head."""

    def next_state(self, state_BS: Tensor, action_BA: Tensor) -> Tensor:
        """Return the state after an action."""


class SubGoal(Protocol):
    """A goal image and its step budget."""

    @property
    def name(self) -> str:
        """Name of the sub-goal."""

    @property
    def image(self) -> Image:
        """RGB uint8 [H, W, 3]."""

    @property
    def state(self) -> NDArray[np.float32]:
        """Robot state [7] at which the image was taken."""

    @property
    def steps(self) -> int:
        """Step budget."""


def other_images(goal: SubGoal) -> Mapping[str, Image]:
    """Return a goal's images of further cameras by name; a user's own goals may have none."""
    found: Mapping[str, Image] = getattr(goal, "others", {})
    return found


@dataclass(frozen=True)
class Decision:
    """An agent's next action, with the plan and energies behind it."""

    action: NDArray[np.float32]
    """Action [7]: m, rad, gripper."""
    sub_goal: int
    """Index of the sub-goal that the action approaches."""
    energy: float = float("nan")
    """Energy of the current frame with respect to the sub-goal."""
    imagined: float = float("nan")
    """Energy of the plan's predicted outcome."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each part [s]: encode, plan."""
    plan: list[list[float]] = field(default_factory=list)
    """All planned actions, in the model's axes."""
    model_calls: int = 0
    """Number of times that the model ran for this plan, one after the other."""
    model_frames: int = 0
    """Number of frames that it predicted for this plan, samples times steps."""
    skills: SkillRecord | None = None
    """Decision about skills; None where the agent continues a skill, or plans actions."""


class Agent(Protocol):
    """Chooses actions toward sub-goals."""

    def begin(self, goals: list[SubGoal], seed: int) -> None:
        """Start a new episode with these sub-goals."""

    def act(self, observation: Reading) -> Decision | None:
        """Return the next action, or None if all step budgets are spent."""
