"""Options of a workcell: arm, camera, limits and scene; see `planning.options`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from planning.errors import PlanError
from planning.options import SceneOptions
from planning.plugins import is_own
from planning.ranges import between, changed_fields, check_fields, plugin

SIMULATED_ROBOTS = ("twin", "mujoco", "fake")
RENDERING_ROBOTS = ("twin", "mujoco")
"""Robots that render their own images; the others see through `camera=`."""

NO_KINEMATICS = "none"
"""Arm model of an arm of a user's class, whose kinematics are unknown."""


def is_real(robot: str) -> bool:
    """Return whether an arm can hurt somebody, so that it moves only with a person's word.

    An arm of a user's own class counts as real.
    """
    return robot not in SIMULATED_ROBOTS


def is_users(robot: str) -> bool:
    """Return whether an arm is of a user's class or of another package."""
    return not is_own("robot", robot)


@dataclass(frozen=True, kw_only=True)
class FrankaOptions:
    """Connection to a Franka arm; rejected with any other robot."""

    address: str = "172.16.0.2"
    """Host name or IP address of the control box."""
    arm: Literal["fr3", "panda"] = "fr3"
    """Arm model."""
    gripper: str = field(default="franka", metadata=plugin("gripper"))
    """Gripper: the Franka hand, Robotiq's 2F-85, or your own class (docs/robot.md)."""
    gripper_port: str = "/dev/ttyUSB0"
    """Serial port of gripper=robotiq."""
    realtime: bool = True
    """Require a real-time kernel; disable for simulated arms only."""
    patience: float = field(default=1.0, metadata=between(0, 1000))
    """Factor (1 or more) on all timeouts and maximum ages; above 1 requires realtime=false."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.gripper_port != type(self).gripper_port and self.gripper != "robotiq":
            raise PlanError(
                f"gripper_port={self.gripper_port} has no effect with gripper={self.gripper}. "
                "Leave it out, or use gripper=robotiq."
            )
        if self.patience < 1 or (self.realtime and self.patience > 1):
            raise PlanError(
                f"patience={self.patience} is out of range. Allowed: 1, or more with "
                "realtime=false for a simulated arm on a busy machine."
            )


@dataclass(frozen=True, kw_only=True)
class MotionOptions:
    """Permission to move the arm."""

    execute: bool = False
    """Move the arm; if false, every command is a dry run."""
    confirm: bool = True
    """Ask for typed confirmation before the arm moves."""
    confirm_each: bool = False
    """Ask for confirmation before every step."""
    unattended: bool = False
    """Allow confirm=false with a real arm; an operator must still watch it."""

    def __post_init__(self) -> None:
        check_fields(self)
        unused = [f for f in changed_fields(self) if not f.startswith("execute")]
        if unused and not self.execute:
            raise PlanError(
                f"{' '.join(unused)} has no effect in a dry run. Add execute=true, or leave it out."
            )


@dataclass(frozen=True, kw_only=True)
class WorkcellOptions:
    """Arm, camera, safety limits and, in simulation, the scene."""

    robot: str = field(default="mujoco", metadata=plugin("robot"))
    """Arm: a real Franka, a simulated twin that speaks libfranka's protocol, MuJoCo, fake, or an
    arm of your own class, which needs camera= and limits= (docs/your-robot.md)."""
    environment: str = field(default="", metadata=plugin("environment"))
    """Environment in place of the arm and its scene (docs/your-environment.md); a Gymnasium id
    works too (empty: the arm of robot=)."""
    scene: SceneOptions = field(default_factory=SceneOptions, metadata={"group": "env"})
    """Scene of a simulated arm."""
    franka: FrankaOptions = field(default_factory=FrankaOptions)
    """Connection to a real arm."""
    camera: str = ""
    """Camera of franka, fake and your own arm: index, device path, video, folder, URL,
    realsense[:SERIAL], zed[:SERIAL], side_by_side[:SOURCE] (left half), lerobot:TYPE,NAME=VALUE,...
    another registered name, or your own as module:Class."""
    limits: str = ""
    """Safety limits: franka, twin, or a .yaml file (empty: the robot's own)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.environment:
            self._check_environment()
        self._refuse_unused()
        task = self.scene.task
        if task and self.robot == "twin" and not is_own("task", task):
            raise PlanError(
                f"task={task} cannot be served by robot=twin. Use robot=mujoco, or one of our own "
                "tasks."
            )
        if self.scene.factor != "none" and self.robot == "twin":
            raise PlanError(
                f"factor={self.scene.factor} has no effect with robot=twin. Leave it out, or use "
                "robot=mujoco."
            )
        if self.scene.embodiment != "franka" and self.robot != "mujoco":
            raise PlanError(
                f"embodiment={self.scene.embodiment} has no effect with robot={self.robot}. Leave "
                "it out, or use robot=mujoco."
            )
        if self.camera and self.robot in RENDERING_ROBOTS:
            raise PlanError(
                f"camera={self.camera!r} has no effect with robot={self.robot}, which renders its "
                "own images. Leave it out, or use robot=franka or robot=fake."
            )
        if is_users(self.robot) and not (self.camera and self.limits):
            raise PlanError(
                f"robot={self.robot} needs camera= and limits=. Give the camera that sees the arm, "
                "and a .yaml file with the arm's own safety limits."
            )

    @property
    def task_name(self) -> str:
        """Name of the task for logs and summaries: the environment's, the task's, or `goals`."""
        return self.environment or self.scene.task or "goals"

    @property
    def name(self) -> str:
        """What is driven: the environment, or the robot."""
        return self.environment or self.robot

    def _check_environment(self) -> None:
        """Reject options of an arm, which an environment replaces."""
        unused = [] if self.robot == type(self).robot else [f"robot={self.robot}"]
        unused += changed_fields(self.scene)
        unused += [f"camera={self.camera}"] if self.camera else []
        if unused:
            raise PlanError(
                f"{' '.join(unused)} has no effect with environment={self.environment}, which has "
                "its own scene and pictures. Leave it out."
            )

    def _refuse_unused(self) -> None:
        """Reject options of another kind of arm."""
        unused, fix = changed_fields(self.franka), "robot=franka"
        if is_real(self.robot):
            unused, fix = (
                changed_fields(self.scene),
                "a simulated robot (twin, mujoco, fake). Goals of a real arm are images: "
                "`worldmodel capture-goal`",
            )
        if not unused and is_users(self.robot):
            kept = ("realtime=", "patience=")  # they say that the arm is simulated
            unused = [x for x in changed_fields(self.franka) if not x.startswith(kept)]
            fix = "robot=franka"
        if unused:
            raise PlanError(
                f"{' '.join(unused)} has no effect with robot={self.robot}. Leave it out, or use "
                f"{fix}."
            )


def check_motion(workcell: WorkcellOptions, motion: MotionOptions) -> None:
    """Reject options that would move a real arm without confirmation.

    Raises:
        PlanError: confirm=false is set without unattended=true, or unattended=true with a simulated
            arm.
    """
    real = is_real(workcell.robot)
    if real and not (motion.confirm or motion.unattended):
        raise PlanError(
            "confirm=false moves a real arm without asking. Leave it out, or add unattended=true "
            "and stand by with the emergency stop."
        )
    if motion.unattended and not real:
        raise PlanError(
            f"unattended=true has no effect with robot={workcell.robot}. Leave it out, or use "
            "robot=franka."
        )
