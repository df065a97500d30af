"""Options of the commands that connect to an arm; see `planning.options`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from planning.errors import PlanError
from planning.options import (
    Device,
    GoalPlannerOptions,
    PlannerOptions,
    Precision,
    SceneOptions,
    SubGoals,
    changed_fields,
    has_one_image,
    require_single_plans,
)
from planning.plugins import is_own
from planning.ranges import between, check_fields, plugin
from planning.serve_options import RemoteOptions

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
    works too (empty: robot=)."""
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


def read_view_sources(entries: tuple[str, ...]) -> dict[str, str]:
    """Return the camera of each view that `other_cameras=` names.

    Raises:
        PlanError: An entry is not VIEW:CAMERA, or names a view twice.
    """
    parts = [entry.partition(":") for entry in entries]
    found = {name: source for name, _, source in parts}
    if len(found) < len(parts) or not all(name and source for name, _, source in parts):
        raise PlanError(
            f"other_cameras={list(entries)}. Give each view once, as VIEW:CAMERA, for instance "
            "other_cameras=wrist:realsense"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class DriveOptions:
    """Options of `worldmodel drive`."""

    workcell: WorkcellOptions = field(default_factory=WorkcellOptions)
    """Arm, camera, limits and scene."""
    motion: MotionOptions = field(default_factory=MotionOptions)
    """Permission to move the arm."""
    model: str = ""
    """Model: embedded or published name, file, or folder of a training run (empty:
    one_goal_labelled for skills, default for actions)."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    planner: GoalPlannerOptions = field(default_factory=GoalPlannerOptions)
    """Search settings of the planner."""
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    """Plan server in place of a model on this machine."""
    goals: list[str] = field(default_factory=list)
    """Goal images in order: a folder or files (empty: the simulated task's goals)."""
    steps: list[int] = field(default_factory=list, metadata=between(1, 100_000))
    """Step budget of each goal image (empty: the captured budget, else 8)."""
    sub_goals: SubGoals = "default"
    """Goal images of a simulated task: default (the task's own), three (without the lift), last
    (the last of default), or one (the objects at their targets and the arm at its start)."""
    episodes: int = field(default=1, metadata=between(1, 1_000_000))
    """Number of episodes."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the scene and the search, as in `worldmodel eval`."""
    axes: str = ""
    """Calibration file of `worldmodel calibrate axes` (empty: none)."""
    max_plan_s: float = field(default=5.0, metadata=between(0.001, 3600, "s"))
    """Maximum age of a frame when its plan is sent to a real arm; older plans are dropped."""
    other_cameras: tuple[str, ...] = ()
    """Cameras of the model's other views, each as VIEW:CAMERA, such as wrist:realsense, with a
    camera as for camera=; a simulated scene renders those that it has and that are not given."""
    judge: bool = False
    """Ask after each episode whether it succeeded."""
    view: bool = False
    """Serve a live web page with camera, goal, energy and plan."""
    port: int = field(default=0, metadata=between(0, 65_535))
    """Port of the live page (0: any free port)."""
    out: str = "runs/drive"
    """Output folder for summary.json, report.html, data/ and logs/."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_motion(self.workcell, self.motion)
        simulated = not is_real(self.workcell.robot)
        unused = {
            f"steps={self.steps}": (self.steps and not self.goals, "goals="),
            "method=skills": (
                self.workcell.environment and self.planner.method == "skills",
                "the table of this package, without environment=",
            ),
            "sub_goals=three": (
                self.workcell.environment and self.sub_goals == "three",
                "a simulated task's goals, without environment=",
            ),
            f"sub_goals={self.sub_goals}": (
                self.goals and self.sub_goals != "default",
                "a simulated task's goals",
            ),
            f"max_plan_s={self.max_plan_s}": (
                simulated and self.max_plan_s != type(self).max_plan_s,
                "robot=franka (simulated arms wait for a plan)",
            ),
            f"other_cameras={list(self.other_cameras)}": (
                bool(self.other_cameras) and self.workcell.robot in RENDERING_ROBOTS,
                "robot=franka, robot=fake or your own arm",
            ),
            f"port={self.port}": (self.port and not self.view, "view=true"),
            "judge=true": (
                simulated and self.judge and not self.goals,
                "goals= (a simulated task judges itself)",
            ),
        }
        for option, (applies, needed) in unused.items():
            if applies:
                raise PlanError(f"{option} has an effect only with {needed}.")
        self._check_remote()
        _ = self.view_sources
        self.resolved_planner()  # refuses options without effect

    @property
    def view_sources(self) -> dict[str, str]:
        """Camera of each view that `other_cameras` names; see `read_view_sources`."""
        return read_view_sources(self.other_cameras)

    def resolved_planner(self) -> GoalPlannerOptions:
        """Return the planner's options with `method=auto` resolved for the goal images."""
        scripted = not self.goals
        one_image = scripted and has_one_image(self.workcell.scene.task, self.sub_goals)
        return self.planner.resolved(one_image=one_image)

    def _check_remote(self) -> None:
        """Reject options of a model on this machine if a server plans."""
        here = {"model": self.model, "device": self.device, "precision": self.precision}
        usual = {"model": "", "device": "auto", "precision": "auto"}
        unused = [f"{name}={value}" for name, value in here.items() if value != usual[name]]
        unused += changed_fields(self.planner)
        if self.remote.policy and unused:
            raise PlanError(
                f"{' '.join(unused)} has no effect with policy={self.remote.policy}: the server "
                "has its own. Give it to `worldmodel serve`, or leave policy= out."
            )

    def resolved(self) -> DriveOptions:
        """Return the options with method and model resolved; a plan server resolves its own."""
        if self.remote.policy:
            return self
        planner = self.resolved_planner()
        return dataclasses.replace(self, planner=planner, model=planner.model_or(self.model))


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Options of `worldmodel calibrate axes`."""

    workcell: WorkcellOptions = field(default_factory=WorkcellOptions)
    """Arm, camera, limits and scene."""
    motion: MotionOptions = field(default_factory=MotionOptions)
    """Permission to move the arm; a calibration needs execute=true."""
    model: str = "default"
    """Model: embedded or published name, file, or folder of a training run."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    planner: PlannerOptions = field(
        default_factory=lambda: PlannerOptions(
            samples=200, iterations=6, elites=12, stretch=1, gate_m=0.0
        )
    )
    """Search settings for the move between two images; the gripper is not planned."""
    moves: int = field(default=12, metadata=between(2, 10_000))
    """Number of random moves."""
    length_m: float = field(default=0.05, metadata=between(0.001, 1, "m"))
    """Length of each move."""
    reach_m: float = field(default=0.08, metadata=between(0.001, 2, "m"))
    """Maximum distance from the start position."""
    max_condition: float = field(default=3.0, metadata=between(1, 1e6))
    """Maximum condition number of the moves; above it the calibration fails."""
    max_residual: float = field(default=0.5, metadata=between(0, 1))
    """Maximum relative residual of the moves; above it the calibration fails."""
    turn_deg: float = field(default=0.0, metadata=between(-180, 180, "deg"))
    """Rotate every command of a simulated arm by this angle, to test the calibration."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the scene and the moves."""
    out: str = "runs/axes"
    """Output folder for axes.json, moves.json and summary.json."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_motion(self.workcell, self.motion)
        require_single_plans(self.planner, "calibrate axes")
        if self.turn_deg and is_real(self.workcell.robot):
            raise PlanError(
                f"turn_deg={self.turn_deg} is for simulated arms. Leave it out with robot=franka."
            )


@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    """Options of `worldmodel capture-goal`."""

    workcell: WorkcellOptions = field(default_factory=WorkcellOptions)
    """Arm, camera, limits and scene."""
    motion: MotionOptions = field(default_factory=MotionOptions)
    """Permission to move the arm."""
    step_m: float = field(default=0.02, metadata=between(0.0001, 1, "m"))
    """Distance moved per key press."""
    steps: int = field(default=8, metadata=between(1, 100_000))
    """Default step budget of a goal."""
    energy_views: tuple[str, ...] = ()
    """Cameras that the goals show, for a model of several views: its first ones, such as left,right
    (empty: the main one alone)."""
    other_cameras: tuple[str, ...] = ()
    """Cameras of the further energy_views, as in `worldmodel drive`."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of a simulated scene."""
    out: str = "runs/goals"
    """Output folder; pass it to `worldmodel drive goals=`."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_motion(self.workcell, self.motion)
        unused = [name for name in self.view_sources if name not in self.energy_views[1:]]
        if unused or len(set(self.energy_views)) < len(self.energy_views):
            raise PlanError(
                f"other_cameras={list(self.other_cameras)} energy_views={list(self.energy_views)}. "
                "Give each view once, and cameras for views behind the first"
            )
        if self.other_cameras and self.workcell.robot in RENDERING_ROBOTS:
            raise PlanError(
                f"other_cameras={list(self.other_cameras)} has no effect with "
                f"robot={self.workcell.robot}, which renders its own images. Leave it out."
            )

    @property
    def view_sources(self) -> dict[str, str]:
        """Camera of each view that `other_cameras` names; see `read_view_sources`."""
        return read_view_sources(self.other_cameras)


@dataclass(frozen=True, kw_only=True)
class CheckViewOptions:
    """Options of `worldmodel check-view`."""

    workcell: WorkcellOptions = field(default_factory=WorkcellOptions)
    """Arm, camera, limits and scene."""
    reference: str = ""
    """Reference image to compare with (empty: only capture one)."""
    max_difference: float = field(default=0.1, metadata=between(0, 1))
    """Maximum mean difference of grey levels (0 to 1)."""
    max_shift_px: float = field(default=3.0, metadata=between(0, 10_000, "px"))
    """Maximum shift of the image."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of a simulated scene."""
    out: str = "runs/view"
    """Output folder for view.png, overlay.png and summary.json."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.reference and (self.max_difference, self.max_shift_px) != (0.1, 3.0):
            raise PlanError("max_difference and max_shift_px have an effect only with reference=.")
