"""Drive an arm toward goal images: connect, confirm, run the episodes and write the results."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from envs.embodiment import get_embodiment
from planning.apps.drive_planner import open_drive_planner
from planning.apps.drive_session import Drive, Finish
from planning.apps.failures import begin_log
from planning.apps.open_workcell import open_workcell
from planning.apps.operator import Operator, require_motion_confirmation
from planning.apps.workcell import NO_SCRIPTED_GOALS, read_limits
from planning.apps.workspace import SIMULATED_BOX_M, point
from planning.arm_options import DriveOptions
from planning.errors import DriveError, PlanError
from planning.goals import read_goals
from planning.protocols import Box
from planning.report.live_view import LiveView
from planning.report.recording import require_rerun
from planning.workcell_options import is_real
from worldmodel.data.writers.droid import SLOTS
from worldmodel.shutdown import patient


def check_drive(options: DriveOptions) -> None:
    """Reject inconsistent options before connecting to anything.

    Raises:
        PlanError: Neither goals nor a task are given, or the goals cannot be read.
        DriveError: A real arm has no goals.
    """
    real = is_real(options.workcell.robot)
    if real and not options.goals:
        raise DriveError(NO_SCRIPTED_GOALS)
    if not options.goals and options.workcell.task_name == "goals":
        raise PlanError("There is no goal. Give goals=FOLDER (`capture-goal`) or task=reach.")
    if options.goals:
        read_goals(options.goals, options.steps)
    if options.workcell.limits:
        read_limits(options.workcell.limits)


def other_views(options: DriveOptions, views: tuple[str, ...]) -> tuple[str, ...]:
    """Return the views of a model beside the main one.

    Args:
        options: Options of the drive.
        views: Cameras that the model sees, the main one first.

    Raises:
        PlanError: `other_cameras` names a view that the model does not have, or a recording cannot
            hold one.
    """
    unused = [name for name in options.view_sources if name not in views[1:]]
    if unused:
        raise PlanError(
            f"other_cameras names {', '.join(unused)}, and the model sees {', '.join(views)}, of "
            "which camera= is the first. Leave it out"
        )
    unknown = [name for name in views if name not in SLOTS]
    if len(views) > 1 and unknown:
        raise PlanError(
            f"The model sees the camera {', '.join(unknown)}. The recording of a drive with "
            f"several cameras holds {', '.join(SLOTS)}: train the model on these views"
        )
    return views[1:]


def plan_box(options: DriveOptions) -> Box | None:
    """Return the workspace of planned flange positions; None for that of the simulated Franka."""
    if not is_real(options.workcell.robot):
        hand = get_embodiment(options.workcell.scene.embodiment)
        usual = hand.name == "franka"
        return None if usual else (point(hand.flange_low_m), point(hand.flange_high_m))
    limits = read_limits(options.workcell.limits or options.workcell.robot)
    return point(limits.flange_low_m), point(limits.flange_high_m)


def drive(options: DriveOptions, operator: Operator, finish: Finish) -> int:
    """Connect, ask for confirmation, and run all episodes.

    Args:
        options: Options of the drive.
        operator: The operator beside the arm.
        finish: Receives summary and report of the finished episodes, even if an error ends the
            drive.

    Returns:
        Number of episodes that an exception ended, without ending the drive.

    Raises:
        PlanError, DriveError: The drive cannot start.
        RobotError: The arm or the camera failed.
    """
    options = options.resolved()
    if options.rerun:
        require_rerun()
    check_drive(options)
    begin_log(Path(options.out))
    cell = options.workcell
    with ExitStack() as stack:
        planner = stack.enter_context(closing(open_drive_planner(options)))
        in_fact: DriveOptions = planner.options
        others = other_views(options, planner.views)
        workcell = stack.enter_context(open_workcell(cell, max(planner.image_size)))
        workcell.open_views(others, options.view_sources)
        workcell.require_states(planner.facts()["specs"]["observation"]["state_dim"])
        box_m = workcell.box_m or plan_box(options)
        planner.connect(workcell.spec, box_m or SIMULATED_BOX_M, workcell.interrupt)
        what = f"{options.episodes} episode(s)"
        require_motion_confirmation(operator, workcell, cell, options.motion, what)
        view = None
        if options.view:
            view = stack.enter_context(LiveView(options.port, planner.imagine()))
            operator.tell(f"live view: {view.url}")
        session = Drive(in_fact, workcell, planner, operator, view=view, box_m=box_m)
        with patient():  # the arm is stopped and the episode written, however long a plan takes
            session.run(finish)
    return len(session.errors)
