"""Options of planning and of the commands with an arm: choices, ranges, and refusals."""

import subprocess
import sys
from typing import get_args

import pytest

from planning import arm_options, options
from planning.arm_options import CalibrateOptions, CheckViewOptions, DriveOptions
from planning.errors import PlanError
from planning.options import EvalOptions, PlanOptions, ReplayOptions, SceneOptions
from planning.planner_options import SIGHT_DEG, GoalPlannerOptions, PlannerOptions
from planning.plugins import KINDS
from planning.skill_options import SkillOptions
from planning.workcell_options import FrankaOptions, MotionOptions, WorkcellOptions

FRANKA = {"robot": "franka", "camera": "0"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlannerOptions(samples=0), "samples=0 is out of range. Allowed: 1 to"),
        (lambda: PlannerOptions(gate_m=float("nan")), "gate_m=nan"),
        (lambda: PlannerOptions(deadline_s=float("inf")), "deadline_s=inf"),
        (lambda: PlannerOptions(norm="l3"), "norm='l3'.*l1, l2"),
        (lambda: PlannerOptions(history=3), "history=3"),
        (lambda: PlannerOptions(elites=20, samples=10), "more than samples=10"),
        (lambda: PlannerOptions(elites=5, optimiser="mppi"), "no effect with optimiser=mppi"),
        (lambda: SceneOptions(objects=["ball"]), "objects='ball'.*cylinder"),
        (lambda: EvalOptions(scene=SceneOptions()), "task is empty"),
        (lambda: PlanOptions(planner=PlannerOptions(warm_start=True)), "independent plans"),
        (lambda: PlanOptions(state=[float("nan")] * 7), "state=nan"),
        (lambda: ReplayOptions(model="x", plan=False), "plan=false"),
        (lambda: FrankaOptions(patience=5.0), "realtime=false"),
        (lambda: MotionOptions(confirm=False), "dry run"),
        (lambda: WorkcellOptions(camera="0"), "camera='0' has no effect with robot=mujoco"),
        (lambda: WorkcellOptions(franka=FrankaOptions(arm="panda")), "arm=panda has no effect"),
        (
            lambda: WorkcellOptions(**FRANKA, scene=SceneOptions(task="reach")),
            "task=reach has no effect with robot=franka",
        ),
        (
            lambda: WorkcellOptions(robot="twin", scene=SceneOptions(factor="light")),
            "factor=light has no effect with robot=twin",
        ),
        (lambda: DriveOptions(steps=[3]), "steps=.* only with goals="),
        (lambda: DriveOptions(steps=[0], goals=["a.png"]), "steps=0"),
        (lambda: DriveOptions(goals=["a"], sub_goals="one"), "sub_goals=one"),
        (
            lambda: EvalOptions(scene=SceneOptions(task="push"), sub_goals="three"),
            "task=push has none. Use default, last or one",
        ),
        (
            lambda: EvalOptions(
                scene=SceneOptions(task="pick_place", factor="play_goal"), sub_goals="three"
            ),
            "factor=play_goal has none",
        ),
        (
            lambda: DriveOptions(
                workcell=WorkcellOptions(scene=SceneOptions(task="reach")), sub_goals="three"
            ),
            "task=reach has none",
        ),
        (lambda: DriveOptions(max_plan_s=3.0), "max_plan_s=3.0"),
        (lambda: DriveOptions(port=8000), "view=true"),
        (lambda: DriveOptions(judge=True), "judges itself"),
        (
            lambda: DriveOptions(motion=MotionOptions(execute=True, unattended=True)),
            "unattended=true has no effect",
        ),
        (
            lambda: DriveOptions(
                workcell=WorkcellOptions(**FRANKA),
                motion=MotionOptions(execute=True, confirm=False),
            ),
            "emergency stop",
        ),
        (
            lambda: CalibrateOptions(workcell=WorkcellOptions(**FRANKA), turn_deg=5.0),
            "simulated arms",
        ),
        (lambda: CheckViewOptions(max_shift_px=1.0), "reference="),
    ],
)
def test_a_value_that_would_be_ignored_or_cannot_work_is_refused(make, message):
    with pytest.raises(PlanError, match=message):
        make()


def test_fewer_samples_than_the_usual_elites_are_enough():
    assert PlannerOptions().num_elites == 12
    assert PlannerOptions(samples=5).num_elites == 5
    assert PlannerOptions(samples=5).as_dict()["elites"] == 5


def test_choices_are_those_of_the_environments_and_solvers():
    from envs.appearance import SPLITS
    from envs.config import FACTORS, OBJECTS
    from envs.goals import VARIANTS
    from envs.tasks import ONE_IMAGE, TASKS
    from planning.solvers.registry import NAMES

    assert set(get_args(options.Task)) == {"", *TASKS}
    assert set(get_args(options.Split)) == set(SPLITS)
    assert get_args(options.ObjectShape) == OBJECTS
    assert get_args(options.Factor) == FACTORS
    assert get_args(options.SubGoals) == VARIANTS
    assert set(options.ONE_IMAGE_TASKS) == {"push", *ONE_IMAGE}
    assert tuple(KINDS["optimiser"].own) == NAMES


def test_options_import_neither_torch_nor_mujoco():
    check = (
        f"import sys, {options.__name__}, {arm_options.__name__}\n"
        "sys.exit(bool({'torch', 'mujoco', 'numpy', 'matplotlib'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_line_of_sight_is_the_models_own():
    skills = GoalPlannerOptions(method="skills")
    assert skills.for_model("one_goal_labelled").skill_search.sight_deg == SIGHT_DEG
    assert skills.for_model("one_goal").skill_search.sight_deg is None
    given = GoalPlannerOptions(method="skills", skill_search=SkillOptions(sight_deg=10))
    assert given.for_model("one_goal_labelled").skill_search.sight_deg == 10


def test_commands_resolve_the_line_of_sight():
    found = EvalOptions(sub_goals="one", scene=SceneOptions(task="pick_place")).resolved()
    assert found.planner.skill_search.sight_deg == SIGHT_DEG
    assert EvalOptions(scene=SceneOptions(task="reach")).resolved().planner.method == "actions"
