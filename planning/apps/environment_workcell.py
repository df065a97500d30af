"""Workcell of an environment with goal images: its moving part is driven like an arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.errors import EnvError
from envs.sizes import COLUMNS, POSE_DIM, as_pose
from planning.apps.environments import GoalEnvironment, open_environment
from planning.apps.workcell import Workcell, read_limits
from planning.apps.workspace import point
from planning.errors import DriveError
from planning.goals import GoalPicture
from planning.protocols import Box, SubGoal
from planning.workcell_options import WorkcellOptions
from robot.arm import Arm, ArmSpec, ArmState, Closing, Sent
from robot.cameras.camera import CallableCamera, Camera
from robot.errors import ArmError
from robot.pose import pose_after, pose_diff
from robot.safety.config import SafetyConfig

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
WIDE_M = 3.0
"""Maximum coordinate of the limits [m]."""
LARGEST_STEP_M = 0.2
"""Maximum step that the limits allow [m]."""
ROUNDING = 1 + 1e-6
"""Planned actions are float32, and may exceed the largest step by as much."""


class EnvironmentArm(Closing):
    """The part of an environment that its actions move, as an arm of poses.

    An environment without angles has a state and action of four numbers; as a pose, its angles are
    zero.

    Args:
        env: The environment, of which an episode is started, so that there is a state to read.
    """

    def __init__(self, env: GoalEnvironment) -> None:
        self.env = env
        self.observation: Mapping[str, NDArray[np.generic]] = {}
        self.info: Mapping[str, Any] = {}
        self.begin(0)

    @property
    def spec(self) -> ArmSpec:
        """State and action conventions as poses, whatever the environment's own sizes are."""
        return replace(self.env.arm_spec, state_dim=POSE_DIM, action_dim=POSE_DIM)

    def begin(self, seed: int) -> None:
        """Start an episode of the environment's seed."""
        with _own_code("reset"):
            self.observation, self.info = self.env.reset(seed=seed)
        self.steps = 0
        self.closed = bool(self.state().state[6] > 0.5)

    def state(self) -> ArmState:
        """Return the state as a pose; time advances by one period for each action."""
        return ArmState(
            time_s=self.steps * self.env.arm_spec.period_s,
            state=as_pose(self.observation["state"]),
            q=np.zeros(POSE_DIM),
            dq=np.zeros(POSE_DIM),
            gripper_width_m=0.0,
        )

    def send(self, action: ArrayLike) -> Sent:
        """Move by a DROID delta [7]."""
        return self.send_pose(pose_after(self.state().state, action, self.closed))

    def send_pose(self, target: ArrayLike) -> Sent:
        """Carry out one action of the environment, toward a pose [7].

        Raises:
            ArmError: The environment's own code fails.
        """
        pose = np.asarray(target, dtype=np.float64)
        action = pose_diff(self.state().state, pose)
        closed = bool(pose[6] > 0.5)
        action[6] = float(closed) - float(self.closed)  # 0 keeps the gripper as it is
        given = action if self.env.arm_spec.action_dim == POSE_DIM else action[list(COLUMNS)]
        with _own_code("step"):
            self.observation, _, _, _, self.info = self.env.step(given.astype(np.float32))
        self.steps, self.closed = self.steps + 1, closed
        return Sent(action=action, target=pose)

    def stop(self) -> None:
        """Do nothing: the environment rests between actions."""

    def recover(self) -> None:
        """Do nothing: the environment has no errors to clear."""


@contextmanager
def _own_code(what: str) -> Iterator[None]:
    """Turn an exception of a user's own code into one of an arm, which ends a drive in words."""
    try:
        yield
    except EnvError:
        raise
    except Exception as error:  # an environment's own code can raise anything
        raise ArmError(
            f"The environment's {what} failed ({type(error).__name__}: {error}). Fix its code."
        ) from error


def limits_of(env: GoalEnvironment) -> SafetyConfig:
    """Return limits that change no action of an environment except at the edge of its workspace.

    Every action counts from the measured state, so that it is what the planner chose.
    """
    low_m, high_m = env.box_m or ((-WIDE_M,) * 3, (WIDE_M,) * 3)
    return SafetyConfig(
        flange_low_m=point(low_m),
        flange_high_m=point(high_m),
        tip_low_m=(-WIDE_M,) * 3,
        tip_high_m=(WIDE_M,) * 3,
        table_z_m=-2.0,
        margin_m=0.0,
        clearance_m=0.0,
        max_step_m=min(LARGEST_STEP_M, env.arm_spec.max_step_m * ROUNDING),
        max_step_rad=min(0.5, env.arm_spec.max_rotation_rad),
        max_tilt_rad=3.2,
        max_lag_m=0.0,
        max_lag_rad=0.0,
    )


class EnvironmentWorkcell(Workcell):
    """An environment that `environment=` names, with its pictures, goals and success.

    Raises:
        PlanError: The environment cannot be loaded or created.
    """

    simulated = True
    frozen_s = max_age_s = float("inf")  # an image is rendered when an action ends

    def __init__(self, options: WorkcellOptions, image_size: int) -> None:
        self.env = open_environment(options.environment, image_size)
        self.state_dim = self.env.arm_spec.state_dim
        self.limits = read_limits(options.limits) if options.limits else limits_of(self.env)
        self.moving = EnvironmentArm(self.env)
        self.arm: Arm = self.moving
        self.camera: Camera = CallableCamera(self.picture)
        self.variant = "default"

    @property
    def box_m(self) -> Box:
        """Workspace of planned positions: that of the limits."""
        return point(self.limits.flange_low_m), point(self.limits.flange_high_m)

    @property
    def spec(self) -> ArmSpec:
        """Conventions of the environment as poses, with the camera that it declares."""
        return self.arm.spec

    def picture(self) -> Image:
        """Return the picture after the last action [H, W, 3]."""
        return np.asarray(self.moving.observation["image"], dtype=np.uint8)

    def open_view(self, name: str, source: str) -> Camera:
        """Refuse another view.

        Raises:
            DriveError: Always; an environment has one picture.
        """
        raise DriveError(
            f"The model sees the camera {name} too, and an environment has one picture. Use a "
            "model that was trained on one camera."
        )

    def begin(self, seed: int, variant: str = "default") -> None:
        """Start an episode of the environment."""
        self.moving.begin(seed)
        self.variant = variant

    def sub_goals(self) -> list[SubGoal]:
        """Return the episode's goal images, with states as poses."""
        with _own_code("sub_goals"):
            goals = self.env.sub_goals(self.variant)
        return [
            GoalPicture(g.name, g.image, as_pose(g.state).astype(np.float32), g.steps)
            for g in goals
        ]

    def info(self) -> dict[str, Any] | None:
        """Return what the environment reports: `success` and `error_m`."""
        return dict(self.moving.info)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
