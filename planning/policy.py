"""Policy: connects a world model to an arm and plans from its images and states.

A policy applies the conventions declared by checkpoint and arm: pre-processing, state frame,
period, limits and gripper. Every command plans through it, so that the same image gives the same
tokens everywhere.

Shapes: N tokens, D width, K horizon, S state (7), A action (7), H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from planning.bounds import Bounds
from planning.errors import PlanError
from planning.planner import Memory, Observation, Planner, PlannerConfig
from planning.protocols import (
    ActionSpec,
    ArmSpec,
    Box,
    Image,
    Reading,
    StateFrame,
    SubGoal,
    WorldModel,
    other_images,
    view_key,
)
from planning.solvers.search import Plan
from planning.states import POSE_DIM, POSITION_DIM, check_state, without_angles

ACTION_DIMS = (POSE_DIM, POSITION_DIM)
"""Lengths of a planned action: position (3), rotation (3, only of 7), gripper (1)."""
Picture = NDArray[np.generic]
"""RGB image [H, W, 3]; the model's pre-processing checks that it is uint8."""


def action_bounds(spec: ActionSpec, *, gripper_free: bool = True) -> Bounds:
    """Return the action limits that a model was trained with."""
    return Bounds(
        max_step_m=spec.max_step_m,
        action_dim=spec.action_dim,
        gripper="ternary" if spec.gripper == "command" else "published",
        gripper_free=gripper_free,
    )


class Policy:
    """Plans an arm's actions with a world model.

    Args:
        model: The world model, with its specifications.
        config: Search settings; None for the defaults.
        axes: [2, 2] matrix from planned x-y moves to the arm's (`worldmodel calibrate axes`).

    Raises:
        PlanError: The model's actions have neither 7 numbers, as DROID's, nor 4 without rotation;
            or axes are given for plans on two levels.
    """

    def __init__(
        self,
        model: WorldModel,
        config: PlannerConfig | None = None,
        *,
        axes: NDArray[np.float64] | None = None,
    ) -> None:
        if axes is not None and config is not None and config.hierarchy is not None:
            raise PlanError(
                "hierarchy=macro plans rotations in the robot's base frame, and axes= rotates it. "
                "Leave axes= out, or use hierarchy=none"
            )
        self.model, self.axes = model, axes
        if model.action_spec.action_dim not in ACTION_DIMS:
            raise PlanError(
                f"The model's actions have {model.action_spec.action_dim} numbers. The planner "
                "searches actions of 7 (position, rotation, gripper) or 4 (position, gripper). Use "
                "a model that was trained on such actions"
            )
        config = config or PlannerConfig()
        bounds = action_bounds(model.action_spec, gripper_free=config.gripper_free)
        self.planner = Planner(model, config, bounds)
        self._arm_frame: StateFrame = model.observation_spec.state_frame
        self._of_poses = False
        """Whether the arm has poses, and the model states and actions without angles."""

    @property
    def bounds(self) -> Bounds:
        """Limits of every planned action."""
        return self.planner.bounds

    @property
    def period_s(self) -> float:
        """Duration of an action [s]."""
        return self.model.action_spec.period_s

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras that the model sees, the main one first."""
        return self.model.observation_spec.cameras

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's input images [px]."""
        return self.model.observation_spec.image_size

    def connect(self, arm: ArmSpec, box_m: Box | None = None) -> Self:
        """Adopt an arm's conventions and limits, and check that they match the model's.

        The smaller step limit of model and arm applies. A model without angles plans for an arm
        with them: its actions do not turn the hand. Without a gripper, none is planned. States are
        converted between flange and
        fingertips if the two differ. Plans contain no rotation, so their translations are the same
        for both points.

        Args:
            arm: Conventions declared by the arm.
            box_m: Workspace of planned positions, for the point that the arm's state describes.

        Returns:
            The policy itself.

        Raises:
            PlanError: Period, state size, action size or camera differ. No conversion exists.
        """
        spec, seen = self.model.action_spec, self.model.observation_spec
        if not math.isclose(spec.period_s, arm.period_s, rel_tol=1e-6):
            raise PlanError(
                f"An action of this model spans {spec.period_s:g} s, an action of the arm "
                f"{arm.period_s:g} s: its plans would run at the wrong speed. Use a model trained "
                f"at {1 / arm.period_s:g} Hz"
            )
        sizes = (seen.state_dim, spec.action_dim), (arm.state_dim, arm.action_dim)
        self._of_poses = sizes == ((POSITION_DIM,) * 2, (POSE_DIM,) * 2)
        for what, ours, theirs in zip(("states", "actions"), *sizes, strict=True):
            if ours != theirs and not self._of_poses:
                raise PlanError(
                    f"The model's {what} have {ours} numbers, the arm's have {theirs}. Use a model "
                    "trained on data of this kind of arm"
                )
        if spec.action_dim != POSE_DIM and arm.state_frame != seen.state_frame:
            raise PlanError(
                f"The model's states describe the {seen.state_frame}, the arm's the "
                f"{arm.state_frame}, and states without angles cannot be converted. Use a model "
                f"trained with state_frame={arm.state_frame}"
            )
        if arm.camera not in (None, seen.cameras[0]):
            raise PlanError(
                f"The model was trained on the camera {seen.cameras[0]}, and this arm is seen by "
                f"the camera {arm.camera}. Use a model that was trained on camera={arm.camera}"
            )
        self._arm_frame = arm.state_frame
        low_m, high_m = box_m or (None, None)
        self.planner.bounds = replace(
            self.bounds,
            max_step_m=min(spec.max_step_m, arm.max_step_m),
            low_m=low_m,
            high_m=high_m,
            gripper_free=self.planner.config.gripper_free and arm.gripper != "none",
        )
        return self

    def preprocess(self, image: Picture) -> Image:
        """Resize an RGB uint8 image [H, W, 3] of any size with the transform used in training."""
        frame_HWC = torch.tensor(np.ascontiguousarray(image))
        return self.model.preprocess(frame_HWC).cpu().numpy()

    def encode(self, image: Picture, others: Sequence[Picture] = ()) -> Tensor:
        """Return the tokens [1, N, D] of RGB uint8 images [H, W, 3] of any size.

        Args:
            image: Image of the main camera.
            others: Images of the next cameras of the model, in order; all of them, or fewer for a
                goal, whose tokens are then the first ones of a frame.
        """
        frames_VHWC = torch.from_numpy(np.stack([self.preprocess(x) for x in (image, *others)]))
        if len(self.views) == 1:
            return self.model.encode(frames_VHWC)
        if len(frames_VHWC) == len(self.views):
            return self.model.encode(frames_VHWC[None])
        return self.model.encode_main(frames_VHWC).flatten(0, 1)[None]

    def encode_goal(self, goal: SubGoal) -> Tensor:
        """Return the tokens [1, N, D] of a goal: those of the views that it shows.

        Raises:
            PlanError: The goal shows another camera than the next ones of the model.
        """
        others = other_images(goal)
        names = self.views[1 : 1 + len(others)]
        if set(others) != set(names):
            raise PlanError(
                f"The goal {goal.name} shows {', '.join(others)} beside the main camera, and the "
                f"model sees {', '.join(self.views)}. Allowed: the first of these, in any number"
            )
        return self.encode(goal.image, [others[name] for name in names])

    def look(self, observation: Reading) -> Observation:
        """Encode the images of an observation and convert its state; see `observe`.

        Raises:
            PlanError: The image of a camera is missing, or the state is wrong.
        """
        missing = [name for name in self.views[1:] if view_key(name) not in observation]
        if missing:
            raise PlanError(
                f"The model sees the cameras {', '.join(self.views)}, and the observation has no "
                f"{', '.join(map(view_key, missing))}: give the images of all cameras, or use a "
                "model of one camera"
            )
        others = [observation[view_key(name)] for name in self.views[1:]]
        return self.observe(observation["image"], observation["state"], others)

    def observe(
        self, image: Picture, state: ArrayLike, others: Sequence[Picture] = ()
    ) -> Observation:
        """Encode an image and convert the arm's state for the model.

        Args:
            image: RGB uint8 [H, W, 3] of any size, of the main camera.
            state: The arm's state [S], in the arm's state frame.
            others: Images of the model's other cameras, in order.

        Raises:
            PlanError: The state's length differs from the model's, its numbers cannot be m, rad and
                closedness, or the number of images is not that of the model's cameras.
        """
        if 1 + len(others) != len(self.views):
            raise PlanError(
                f"{1 + len(others)} images were given. This model sees {len(self.views)} cameras: "
                f"{', '.join(self.views)}"
            )
        wanted = self.model.observation_spec.state_dim
        values_S = np.asarray(state, dtype=np.float32)
        if self._of_poses and values_S.shape == (POSE_DIM,):
            check_state(values_S)
            values_S = without_angles(values_S)
        if values_S.shape != (wanted,):
            raise PlanError(
                f"The state has shape {values_S.shape}. This model needs {wanted} numbers: "
                "position [m], extrinsic xyz Euler angles [rad] unless it has 4 numbers, "
                "closedness (0 to 1)"
            )
        check_state(values_S)
        z_1ND = self.encode(image, others)
        state_1S = torch.tensor(values_S, device=z_1ND.device)[None]
        x, y, z = (float(v) for v in values_S[:3])
        if self._arm_frame != self.model.observation_spec.state_frame:
            state_1S = self.model.convert_state(state_1S, self._arm_frame)
        return Observation(z_1ND, state_1S, (x, y, z))

    def plan(
        self, observation: Reading, goal_1ND: Tensor, memory: Memory | None = None
    ) -> tuple[Plan, Memory]:
        """Plan from an observation toward encoded goal tokens.

        Args:
            observation: `image` uint8 [H, W, 3] and `state` [S] of the arm, and `image_NAME` of
                each further camera of the model.
            goal_1ND: Tokens of the goal image, from `encode`.
            memory: What the previous call of this episode returned; None at its beginning.

        Returns:
            The plan, with actions in the arm's axes, and the memory for the next call.
        """
        seen = self.look(observation)
        plan, memory = self.planner.plan(seen, goal_1ND, memory)
        return replace(plan, actions_KA=self.to_arm(plan.actions_KA)), memory

    def to_arm(self, actions_KA: Tensor) -> Tensor:
        """Return planned actions as the arm's: moves in its axes, with its number of values."""
        if self._of_poses:
            angles_K3 = torch.zeros_like(actions_KA[:, :3])
            actions_KA = torch.cat([actions_KA[:, :3], angles_K3, actions_KA[:, 3:]], dim=-1)
        if self.axes is None:
            return actions_KA
        turn_22 = torch.as_tensor(self.axes, dtype=torch.float64)
        moves_K2 = (actions_KA[:, :2].double().cpu() @ turn_22.T).to(actions_KA)
        return torch.cat([moves_K2, actions_KA[:, 2:]], dim=-1)
