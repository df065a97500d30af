"""Options of the commands that connect to an arm; see `planning.options`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from planning.errors import PlanError
from planning.options import Device, Precision, SubGoals, has_one_image, require_lift
from planning.planner_options import GoalPlannerOptions, PlannerOptions, require_single_plans
from planning.ranges import between, changed_fields, check_fields
from planning.serve_options import RemoteOptions
from planning.workcell_options import (
    RENDERING_ROBOTS,
    MotionOptions,
    WorkcellOptions,
    check_motion,
    is_real,
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
    """Goal images of a simulated task: default (the task's own), three (of pick_place: without the
    lift), last (the last of default), or one (the objects at their targets and the arm at its
    start)."""
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
    rerun: bool = False
    """Write a recording of each episode for Rerun's viewer to `rerun` in `out` (extra `rerun`)."""
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
        require_lift(self.workcell.scene, self.sub_goals)
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
        model = planner.model_or(self.model)
        return dataclasses.replace(self, planner=planner.for_model(model), model=model)


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
