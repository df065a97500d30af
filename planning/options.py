"""Options of the commands that use no arm.

A command's options are composed of frozen dataclasses. The docstring under a field is the option's
help text; its valid values are a `Literal` or the range in the field's metadata. This module
imports neither torch nor MuJoCo, so that `--help` is fast.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, get_args

from planning.errors import PlanError
from planning.planner_options import ONE_GOAL, GoalPlannerOptions, require_single_plans
from planning.ranges import between, changed_fields, check_fields, plugin
from planning.shard_options import ShardOptions

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
Task = Literal[
    "",
    "reach",
    "grasp",
    "reach_with_object",
    "pick_place",
    "push",
    "push_pose",
    "two_objects",
    "over_wall",
    "sort",
]
Split = Literal["train", "held_out"]
EmbodimentName = Literal["franka", "droid"]
ObjectShape = Literal["cube", "box", "cup", "cylinder", "long_box", "T", "L"]
Factor = Literal[
    "none",
    "object_color",
    "object_size",
    "shape",
    "table_texture",
    "light",
    "camera",
    "mass_friction",
    "distractor",
    "gripper_speed",
    "play_goal",
]
SubGoals = Literal["default", "three", "last", "one"]
ONE_IMAGE_TASKS = ("push", "push_pose", "two_objects", "over_wall", "sort")
"""Tasks whose default goal is a single image of moved objects with the arm at its start."""

START_STATE = (0.5, 0.0, 0.28, 3.1416, 0.0, -0.7854, 0.0)


def has_one_image(task: str, sub_goals: SubGoals) -> bool:
    """Return whether the goal is a single image of moved objects with the arm at its start."""
    return task in ONE_IMAGE_TASKS or (task == "pick_place" and sub_goals == "one")


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """Simulated scene."""

    task: str = field(default="", metadata=plugin("task"))
    """Task of the scene, ours or your own; empty is the scene of reach without a scripted goal."""
    split: Split = "train"
    """Appearance split of the scene."""
    objects: list[ObjectShape] = field(default_factory=list)
    """Object shapes; each episode picks one at random for each object (empty: the task's own, a
    long box in push_pose, else a cube)."""
    factor: Factor = "none"
    """One change of the scene that training never showed (docs/environments.md)."""
    embodiment: EmbodimentName = "franka"
    """Gripper and cameras of the simulated arm: franka (the Franka hand, square images), or droid
    (the robot of the DROID data set: Robotiq 2F-85, images of 16:9)."""

    def __post_init__(self) -> None:
        check_fields(self)


def require_lift(scene: SceneOptions, sub_goals: SubGoals) -> None:
    """Refuse `sub_goals=three`, which leaves out a lift, where the goal images show none.

    Raises:
        PlanError: The task is one of ours and not pick_place, or play made the goal.
    """
    ours = scene.task in get_args(Task)[1:] and scene.task != "pick_place"
    where = f"task={scene.task}" if ours else f"factor={scene.factor}"
    if sub_goals == "three" and (ours or scene.factor == "play_goal"):
        raise PlanError(
            f"sub_goals=three leaves out the lift of pick_place, and {where} has none. Use "
            "default, last or one."
        )


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Options of `worldmodel eval`."""

    model: str = ""
    """Model: embedded or published name, file, or folder of a training run (empty:
    one_goal_labelled for skills, default for actions)."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    scene: SceneOptions = field(
        default_factory=lambda: SceneOptions(task="reach"), metadata={"group": "env"}
    )
    """Simulated scene."""
    environment: str = field(default="", metadata=plugin("environment"))
    """Environment in place of the table (docs/your-environment.md); a Gymnasium id works too
    (empty: the table's scene)."""
    axes: str = ""
    """Calibration file of `worldmodel calibrate axes` (empty: none)."""
    sub_goals: SubGoals = "default"
    """Goal images: default (the task's own), three (of pick_place: without the lift), last (the
    last of default), or one (the objects at their targets and the arm at its start)."""
    energy_views: tuple[str, ...] = ()
    """Cameras that the goal images show and the energy compares, the first ones of a model of
    several views, such as left,right (empty: the main one alone)."""
    episodes: int = field(default=50, metadata=between(1, 1_000_000))
    """Number of episodes."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Evaluation seed, from which each episode's seed is derived."""
    planner: GoalPlannerOptions = field(default_factory=GoalPlannerOptions)
    """Search settings of the planner."""
    baselines: bool = True
    """Run the baselines hold, random and pose_only as well."""
    workers: int = field(default=2, metadata=between(1, 1024))
    """Number of worker processes."""
    pictures: bool = True
    """Keep camera frames for the report."""
    rerun: bool = False
    """Write a recording of each episode for Rerun's viewer to `rerun` in `out` (extra `rerun`)."""
    part: ShardOptions = field(default_factory=ShardOptions)
    """Episodes that this run plays."""
    out: str = "runs/eval"
    """Output folder for summary.json and report.html."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.scene.task:
            known = ", ".join(name for name in get_args(Task) if name)
            raise PlanError(f"task is empty. Choose one of: {known}.")
        self._check_environment()
        require_lift(self.scene, self.sub_goals)
        if self.rerun and self.part.shard is not None:
            raise PlanError("rerun=true has no effect on a shard. Leave one of both out.")
        self.resolved_planner()  # refuses options without effect

    def _check_environment(self) -> None:
        """Reject options of the table's scene, and skills, in another environment."""
        if not self.environment:
            return
        usual = SceneOptions(task="reach")
        unused = [x for x in changed_fields(self.scene) if x not in changed_fields(usual)]
        unused += [f"sub_goals={self.sub_goals}"] if self.sub_goals == "three" else []
        unused += [f"energy_views={','.join(self.energy_views)}"] if self.energy_views else []
        unused += ["method=skills"] if self.planner.method == "skills" else []
        if unused:
            raise PlanError(
                f"{' '.join(unused)} has no effect with environment={self.environment}, which has "
                "its own scene. Leave it out."
            )

    @property
    def task_name(self) -> str:
        """Name of the task for summaries: the environment's, or the table's task."""
        return self.environment or self.scene.task

    def resolved_planner(self) -> GoalPlannerOptions:
        """Return the planner's options with `method=auto` resolved for the task's goal images."""
        return self.planner.resolved(one_image=has_one_image(self.scene.task, self.sub_goals))

    def resolved(self) -> EvalOptions:
        """Return the options with method and model resolved."""
        planner = self.resolved_planner()
        model = planner.model_or(self.model)
        return dataclasses.replace(self, planner=planner.for_model(model), model=model)


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Options of `worldmodel demo`."""

    episodes: int = field(default=5, metadata=between(1, 1_000_000))
    """Number of episodes, shared between pick_place and push."""
    model: str = ONE_GOAL
    """Model: embedded or published name, file, or folder of a training run."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    embodiment: EmbodimentName = "franka"
    """Gripper and cameras of the arm: franka or droid (docs/environments.md)."""
    seed: int = field(default=7, metadata=between(0, 2**31 - 1))
    """Evaluation seed, from which each episode's seed is derived."""
    planner: GoalPlannerOptions = field(default_factory=GoalPlannerOptions)
    """Search settings of the planner."""
    workers: int = field(default=2, metadata=between(1, 1024))
    """Number of worker processes."""
    out: str = "runs/demo"
    """Output folder for summary.json, report.html and demo.webp."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.embodiment != "franka" and self.model == ONE_GOAL:
            raise PlanError(
                f"embodiment={self.embodiment} needs model=: no embedded model was trained on this "
                "robot and its cameras. Train one on `worldmodel collect embodiment=droid`."
            )


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options of `worldmodel plan`."""

    image: str = ""
    """Image file of the current scene, of any size."""
    goal: str = ""
    """Image file of the goal, of any size."""
    model: str = "default"
    """Model: embedded or published name, file, or folder of a training run."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the weights (auto: bfloat16 on CUDA devices that have it, else float32)."""
    state: list[float] = field(
        default_factory=lambda: list(START_STATE), metadata=between(-10, 10, "m or rad")
    )
    """Robot state: flange x y z [m], extrinsic xyz Euler angles [rad], closedness (0 to 1)."""
    planner: GoalPlannerOptions = field(default_factory=GoalPlannerOptions)
    """Search settings of the planner."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the search."""
    out: str = "runs/plan"
    """Output folder for summary.json."""

    def __post_init__(self) -> None:
        check_fields(self)
        require_single_plans(self.planner, "plan")


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """Options of `worldmodel replay`."""

    run: str = ""
    """Output folder of `worldmodel drive`, or one folder of its logs/."""
    plan: bool = True
    """Plan again from the recorded frames and states."""
    model: str = ""
    """Plan with this model instead of the drive's."""
    tolerance: float = field(default=1e-6, metadata=between(0, 1))
    """Maximum difference between actions that count as equal."""
    rerun: bool = False
    """Write a recording of each drive for Rerun's viewer to `rerun` in `out` (extra `rerun`)."""
    out: str = "runs/replay"
    """Output folder for summary.json, report.html and replay.webp."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.model and not self.plan:
            raise PlanError(f"model={self.model!r} has no effect with plan=false. Leave one out.")
