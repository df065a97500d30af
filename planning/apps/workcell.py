"""Workcells: arm, camera, safety limits and, in simulation, a task with success criteria."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.config import CAMERA_NAMES
from planning.apps.open_camera import open_camera
from planning.apps.tasks import make_scene
from planning.errors import DriveError, PlanError
from planning.protocols import Box, SubGoal
from planning.workcell_options import NO_KINEMATICS, WorkcellOptions, is_users
from planning.yaml_file import read_yaml, values_of
from robot.arm import Arm, ArmSpec, Closing, Sent
from robot.cameras.camera import CallableCamera, Camera, CheckedCamera
from robot.errors import ConfigError
from robot.fake import FakeArm
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, SafetyConfig
from worldmodel.resources import config_folder

Image = NDArray[np.uint8]
NO_SCRIPTED_GOALS = (
    "A real arm has no scripted goals. Capture images with `worldmodel capture-goal`, then give "
    "goals=FOLDER."
)
DEFAULT_IMAGE_SIZE = 128
"""Default side of a simulated camera's image [px]."""


def read_limits(name: str) -> SafetyConfig:
    """Read safety limits by name (`configs/robot/NAME.yaml`) or from a .yaml file.

    Raises:
        ConfigError: The file does not exist, or a limit is out of range.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        path = config_folder() / "robot" / f"{name}.yaml"
    try:
        values = values_of(read_yaml(path))
    except PlanError as error:
        raise ConfigError(
            f"Limits {name!r} cannot be read ({error}). Allowed: franka, twin or a file.yaml."
        ) from error
    try:
        return SafetyConfig.read(values)
    except ConfigError as error:
        raise ConfigError(f"Limits {str(path)!r}: {error}") from error


class Workcell(Closing):
    """An arm and its camera; a simulated one also provides scenes, goals and success."""

    simulated = False
    """Whether arm and scene are simulated."""
    auto_recovers = False
    """Whether `begin` clears a reflex, so that only the episode is lost."""
    arm: Arm
    camera: Camera
    limits: SafetyConfig
    frozen_s = 0.5
    """Time of identical frames after which the camera counts as hung [s]."""
    max_age_s = 0.2
    """Maximum age of a frame [s]; larger for simulations, which share the planner's processor."""
    camera_name: str | None = None
    """The simulated camera; None for a camera that a person has placed."""
    state_dim = 7
    """Numbers of a state that the arm knows: 4 without angles, which are then zero."""

    @property
    def box_m(self) -> Box | None:
        """Workspace of planned positions, if it is not that of the options."""
        return None

    @property
    def spec(self) -> ArmSpec:
        """What arm and camera declare; a policy connects to it."""
        return replace(self.arm.spec, camera=self.camera_name)

    def require_states(self, state_dim: int) -> None:
        """Check that the states have the numbers that a model needs.

        Raises:
            PlanError: The model needs angles, and there are none.
        """
        if state_dim > self.state_dim:
            raise PlanError(
                f"The model's states have {state_dim} numbers, the environment's have "
                f"{self.state_dim}. Use a model trained on data of this environment."
            )

    def begin(self, seed: int, variant: str = "default") -> None:
        """Reset the scene of a simulated episode; a real scene is left unchanged.

        Args:
            seed: Seed of the scene.
            variant: Variant of the goal images that `sub_goals` returns.
        """

    def sub_goals(self) -> list[SubGoal]:
        """Return the episode's goal images, rendered by the scripted expert (simulation only).

        Raises:
            DriveError: The arm is real.
        """
        raise DriveError(NO_SCRIPTED_GOALS)

    def info(self) -> dict[str, Any] | None:
        """Return what `ArmEnv.info` reports about the task; None for a real arm."""
        return None

    def interrupt(self, why: str) -> None:
        """Stop a motion in progress, from any thread.

        The arms of plain simulations move only inside `send`, which returns soon.

        Args:
            why: The reason, which the episode's end names.
        """

    def checked(self) -> CheckedCamera:
        """Return the camera with checks for stale, frozen and black frames."""
        return CheckedCamera(self.camera, max_age_s=self.max_age_s, frozen_s=self.frozen_s)

    def open_view(self, name: str, source: str) -> Camera:
        """Open the camera of another view of the model.

        Args:
            name: Name of the view.
            source: Camera that `other_cameras=` names for it; empty if it names none.

        Raises:
            DriveError: The workcell has no such view, or needs a source.
        """
        if not source:
            raise DriveError(
                f"The model sees the camera {name} too. Give other_cameras={name}:CAMERA, with a "
                "camera as for camera="
            )
        return open_camera(source, live=True)

    def open_views(self, names: Sequence[str], sources: Mapping[str, str]) -> None:
        """Open the cameras of the model's other views; `close` closes them.

        Args:
            names: Names of the views.
            sources: Camera that `other_cameras=` names for some views.
        """
        for name in names:
            self.others[name] = self.open_view(name, sources.get(name, ""))

    def checked_views(self) -> dict[str, CheckedCamera]:
        """Return the cameras of the other views by name, with the checks of `checked`."""
        limits = {"max_age_s": self.max_age_s, "frozen_s": self.frozen_s}
        return {name: CheckedCamera(camera, **limits) for name, camera in self.others.items()}

    @functools.cached_property
    def others(self) -> dict[str, Camera]:
        """Cameras of the model's other views by name."""
        return {}

    def close(self) -> None:
        """Close the cameras and the arm."""
        for camera in (self.camera, *self.others.values()):
            camera.close()
        self.arm.close()


class MujocoWorkcell(Workcell):
    """The `ArmEnv` scene, with its simulated arm."""

    simulated = True
    frozen_s = max_age_s = float("inf")  # an image is rendered when it is asked for
    camera_name: str | None = "left"

    def __init__(self, options: WorkcellOptions, image_size: int = DEFAULT_IMAGE_SIZE) -> None:
        self.env = make_scene(options.scene, image_size)
        self.limits = read_limits(options.limits or "twin")
        self.arm: Arm = self.env.arm
        self.camera: Camera = CallableCamera(self.picture)
        self.variant = "default"

    def picture(self, camera: str = "left") -> Image:
        """Render a camera's image [H, W, 3]."""
        return self.env.renderer.render(self.env.data, camera)

    def open_view(self, name: str, source: str) -> Camera:
        """Render the camera of another view, or open its source.

        Raises:
            DriveError: The scene has no camera of this name.
        """
        if source:
            return open_camera(source)
        if name not in CAMERA_NAMES:
            raise DriveError(
                f"The model sees the camera {name}, which the scene does not have. It has: "
                f"{', '.join(CAMERA_NAMES)}"
            )
        return CallableCamera(functools.partial(self.picture, name))

    def begin(self, seed: int, variant: str = "default") -> None:
        """Reset the scene; a new object shape replaces the simulated arm."""
        self.env.reset(seed=seed)
        self.arm, self.variant = self.env.arm, variant

    def sub_goals(self) -> list[SubGoal]:
        """Return the episode's goal images, rendered by the scripted expert."""
        return list(self.env.sub_goals(self.variant))

    def info(self) -> dict[str, Any] | None:
        """Return what `ArmEnv.info` reports about the task."""
        return self.env.info()

    def close(self) -> None:
        """Close the arm and free the renderer."""
        self.arm.close()
        self.env.close()


class FakeWorkcell(MujocoWorkcell):
    """`FakeArm` (no physics), rendered at its joint positions in the `ArmEnv` scene."""

    max_age_s = 3.0  # its camera may be a real one

    def __init__(self, options: WorkcellOptions, image_size: int = DEFAULT_IMAGE_SIZE) -> None:
        super().__init__(options, image_size)
        self.fake = FakeArm()
        self.arm = self.fake
        if options.camera:
            self.camera, self.camera_name = open_camera(options.camera), None

    def begin(self, seed: int, variant: str = "default") -> None:
        """Reset the scene; the fake arm takes the simulated arm's joint positions."""
        super().begin(seed, variant)
        self.fake.q = self.env.data.qpos[:7].copy()
        self.fake.closed = False
        self.arm = self.fake

    def _sync(self) -> None:
        self.env.data.qpos[:7] = self.fake.q
        mujoco.mj_forward(self.env.model, self.env.data)

    def picture(self, camera: str = "left") -> Image:
        """Render a camera's image of the fake arm."""
        self._sync()
        return super().picture(camera)

    def info(self) -> dict[str, Any] | None:
        """Return what `ArmEnv.info` reports at the fake arm's position."""
        self._sync()
        return super().info()


def arm_model(options: WorkcellOptions) -> str:
    """Return the arm model for the kinematics; every simulated arm of ours is an fr3."""
    if is_users(options.robot) or options.environment:
        return NO_KINEMATICS
    return options.franka.arm if options.robot == "franka" else "fr3"


def safe_arm(
    options: WorkcellOptions,
    workcell: Workcell,
    *,
    execute: bool,
    confirm: Callable[[Sent], bool] | None = None,
    log: IO[str] | None = None,
) -> SafeArm:
    """Return the workcell's arm behind its safety layer, referenced to its current pose.

    Args:
        options: Selects the arm's kinematics.
        workcell: Arm and safety limits.
        execute: Whether to send commands to the arm; False is a dry run.
        confirm: Called before every step; None sends without confirmation.
        log: File for one JSON line per command.
    """
    model = arm_model(options)
    known = model != NO_KINEMATICS
    return SafeArm(
        workcell.arm,
        workcell.limits,
        solver=Kinematics(model, workcell.limits.joint_margin_rad) if known else None,
        execute=execute,
        confirm=confirm,
        log=log,
    )
