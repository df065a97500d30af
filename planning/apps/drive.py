"""Drive an arm toward goal images: connect, confirm, run the episodes and write the results."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from envs.embodiment import get_embodiment
from planning.apps.drive_planner import DrivePlanner, open_drive_planner
from planning.apps.drive_recorder import OpenEpisode, Recorder
from planning.apps.drive_summary import drive_summary
from planning.apps.open_workcell import open_workcell
from planning.apps.operator import (
    Operator,
    is_attended,
    require_motion_confirmation,
    require_recovery_confirmation,
    step_question,
)
from planning.apps.workcell import NO_SCRIPTED_GOALS, Workcell, arm_model, read_limits, safe_arm
from planning.apps.workspace import SIMULATED_BOX_M, point
from planning.arm_options import DriveOptions, is_real
from planning.drive_log import DriveLog, new_folder
from planning.driving import Step, drive_episode
from planning.errors import DriveError, PlanError
from planning.goals import GoalPicture, read_goals
from planning.protocols import Box, SubGoal
from planning.report.live_view import LiveView
from planning.report.page import write_report
from planning.rollout import Episode, episode_seed
from robot.errors import ArmError, ReflexError
from worldmodel.atomic_io import no_links
from worldmodel.shutdown import deferred_stop, name_of, patient

log = logging.getLogger(__name__)

Finish = Callable[[dict[str, Any], Path], None]
"""Callback for the summary and the report's path, also called if the drive ends in an error."""


def check_drive(options: DriveOptions) -> None:
    """Reject inconsistent options before connecting to anything.

    Raises:
        PlanError: neither goals nor a task are given, or the goals cannot be read.
        DriveError: a real arm has no goals.
    """
    real = is_real(options.workcell.robot)
    if real and not options.goals:
        raise DriveError(NO_SCRIPTED_GOALS)
    if not options.goals and not options.workcell.scene.task:
        raise PlanError("There is no goal. Give goals=FOLDER (`capture-goal`) or task=reach.")
    if options.goals:
        read_goals(options.goals, options.steps)
    if options.workcell.limits:
        read_limits(options.workcell.limits)


def plan_box(options: DriveOptions) -> Box | None:
    """Return the workspace of planned flange positions; None for that of the simulated Franka."""
    if not is_real(options.workcell.robot):
        hand = get_embodiment(options.workcell.scene.embodiment)
        usual = hand.name == "franka"
        return None if usual else (point(hand.flange_low_m), point(hand.flange_high_m))
    limits = read_limits(options.workcell.limits or options.workcell.robot)
    return point(limits.flange_low_m), point(limits.flange_high_m)


class Drive:
    """Runs episodes on a connected workcell.

    Args:
        options: options of the drive.
        workcell: connected arm and camera.
        planner: plans the actions; connected to the workcell's arm.
        operator: the operator beside the arm.
        view: live web page, or None.
        box_m: workspace of planned flange positions, which is logged; None uses the simulated
            workcell's.
    """

    def __init__(
        self,
        options: DriveOptions,
        workcell: Workcell,
        planner: DrivePlanner,
        operator: Operator,
        *,
        view: LiveView | None = None,
        box_m: Box | None = None,
    ) -> None:
        self.options, self.workcell, self.planner = options, workcell, planner
        self.operator, self.view, self.box_m = operator, view, box_m
        self.agent = planner.agent()
        self.out = Path(options.out)
        self.episodes: list[Episode] = []
        """Every episode that began, also the one that an error ended."""
        self.ended: list[str] = []
        self.open: OpenEpisode | None = None
        """The episode in progress, until everything about it is written."""
        self.reasons: Counter[str] = Counter()

    def goals(self) -> list[SubGoal]:
        """Return the given goal images, else those of the current scene."""
        if self.options.goals:
            return list(read_goals(self.options.goals, self.options.steps))
        return self.workcell.sub_goals()

    def header(self, seed: int) -> dict[str, Any]:
        """Return the log header, with everything a replay needs."""
        facts = self.planner.facts()
        return {
            "options": dataclasses.asdict(self.options),
            "seed": seed,
            "box_m": self.box_m,
            "limits": dataclasses.asdict(self.workcell.limits),
            "kinematics": arm_model(self.options.workcell),
            **facts,
            "specs": facts["specs"] | {"arm": dataclasses.asdict(self.workcell.spec)},
        }

    def run(self, finish: Finish) -> None:
        """Run all episodes; summarise those that began even if an error ends the drive."""
        interrupted = False
        try:
            for index in range(self.options.episodes):
                self._prepare_scene(index)
                last = index + 1 == self.options.episodes
                self.run_episode(index, lose_one_for=self._tolerated(last=last))
        except KeyboardInterrupt:
            interrupted = True
            raise
        finally:
            with deferred_stop():  # a signal waits until everything is written
                self._close_episode()
                self._report(finish, with_imagined=not interrupted)

    def _report(self, finish: Finish, *, with_imagined: bool) -> None:
        """Write summary and report of the episodes that began."""
        summary = drive_summary(self.options, self.episodes, self.ended, self.reasons)
        try:
            if with_imagined:
                self.planner.add_imagined(self.episodes)
        except Exception as error:  # noqa: BLE001 - these pictures must not cost the report
            log.warning("The report has no imagined pictures (%s).", error)
        title = f"drive {self.options.workcell.robot}: {summary['task']}"
        finish(summary, write_report(self.out, title, summary, self.episodes))

    def _prepare_scene(self, index: int) -> None:
        """Let the operator reset the scene and inspect a stopped arm."""
        cell, motion = self.options.workcell, self.options.motion
        if index and is_real(cell.robot) and motion.confirm:
            self.operator.ask("Set the scene up, then press Enter: ")
        require_recovery_confirmation(self.operator, self.workcell, cell, motion)

    def _tolerated(self, *, last: bool) -> tuple[type[ArmError], ...]:
        """Return the errors that end only one episode, since the arm recovers before the next."""
        if not last and is_attended(self.options.workcell, self.options.motion):
            return (ArmError,)
        return (ReflexError,) if self.workcell.auto_recovers else ()

    def run_episode(self, index: int, *, lose_one_for: tuple[type[ArmError], ...] = ()) -> None:
        """Run one episode; its log, recording and pictures are kept even if it fails."""
        seed = episode_seed(self.options.seed, index)
        self.workcell.begin(seed, self.options.sub_goals)
        goals = self.goals()
        try:
            with deferred_stop():  # so that every log that begins also ends
                self.open = opened = self._open_episode(index, seed, goals)
            if self.view is not None:
                self.view.begin(goals)
            opened.ended = self._follow(goals, seed, opened, f"episode {index}")
            if opened.ended:
                opened.stop_arm()
            elif self.options.judge and not opened.recorder.judged:
                opened.verdict = self._judge()
        except BaseException as error:
            if self.open is not None:
                with deferred_stop():
                    self.open.ended = _why(error)
                    self.open.stop_arm()
            if not isinstance(error, lose_one_for):
                raise
            self.operator.tell(f"episode {index} ended: {error}")
        finally:
            with deferred_stop():
                self._close_episode()

    def _open_episode(self, index: int, seed: int, goals: list[SubGoal]) -> OpenEpisode:
        """Create the log, the recording and the report's record of an episode."""
        shown = [self._as_seen(goal) for goal in goals]
        episode = Episode(self.options.workcell.scene.task or "goals", seed, goals=shown)
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{index:03d}"
        recorder = Recorder(self.options, self.workcell, episode, self.planner.preprocess)
        records = DriveLog(new_folder(self.out / "logs", stamp), self.header(seed), goals)
        self.episodes.append(episode)
        return OpenEpisode(records, recorder)

    def _close_episode(self) -> None:
        """Write what is left of the episode in progress, if there is one."""
        opened, self.open = self.open, None
        if opened is not None:
            self.ended.append(opened.ended)
            self.reasons.update(opened.recorder.reasons)
            opened.close(self.out)

    def _as_seen(self, goal: SubGoal) -> SubGoal:
        """Return a goal with its image pre-processed for the model, for the report."""
        image = self.planner.preprocess(goal.image)
        return GoalPicture(goal.name, image, goal.state, goal.steps)

    def _judge(self) -> bool:
        return self.operator.ask("Did it succeed? [y/N] ").lower() in ("y", "yes")

    def _follow(self, goals: list[SubGoal], seed: int, opened: OpenEpisode, title: str) -> str:
        cell, motion = self.options.workcell, self.options.motion
        log = opened.records.folder / "safety.jsonl"
        with (
            open(log, "w", encoding="utf-8", opener=no_links) as file,
            tqdm(total=sum(g.steps for g in goals), desc=title, unit="step") as bar,
        ):
            arm = safe_arm(
                cell,
                self.workcell,
                execute=motion.execute,
                confirm=step_question(self.operator) if motion.confirm_each else None,
                log=file,
            )
            return drive_episode(
                arm,
                self.workcell.checked(),
                self.agent,
                goals,
                seed=seed,
                listen=self._listener(opened, bar),
                max_age_s=math.inf if self.workcell.simulated else self.options.max_plan_s,
            )

    def _listener(self, opened: OpenEpisode, bar: tqdm[Any]) -> Callable[[Step], None]:
        def listen(step: Step) -> None:
            opened.step(step)
            if self.view is not None:
                self.view.step(step)
            if step.decision is None or step.sent is None:
                return
            bar.update(1)
            bar.set_postfix(energy=f"{step.decision.energy:.3f}", goal=step.decision.sub_goal + 1)
            shown = [str(r) for r in step.sent.reasons if r.kind != "dry run"]
            if shown:
                bar.write(f"step {step.index}: {'; '.join(shown)}")

        return listen


def _why(error: BaseException) -> str:
    """Return what ended an episode: the signal, or the error's text."""
    if isinstance(error, KeyboardInterrupt):
        return name_of(error)
    return str(error) or type(error).__name__


def drive(options: DriveOptions, operator: Operator, finish: Finish) -> None:
    """Connect, ask for confirmation, and run all episodes.

    Args:
        options: options of the drive.
        operator: the operator beside the arm.
        finish: receives summary and report of the finished episodes, even if an error ends the
            drive.

    Raises:
        PlanError, DriveError: the drive cannot start.
        RobotError: the arm or the camera failed.
    """
    options = options.resolved()
    check_drive(options)
    cell = options.workcell
    box_m = plan_box(options)
    with ExitStack() as stack:
        planner = stack.enter_context(closing(open_drive_planner(options)))
        in_fact: DriveOptions = planner.options
        workcell = stack.enter_context(open_workcell(cell, max(planner.image_size)))
        planner.connect(workcell.spec, box_m or SIMULATED_BOX_M, workcell.interrupt)
        what = f"{options.episodes} episode(s)"
        require_motion_confirmation(operator, workcell, cell, options.motion, what)
        view = stack.enter_context(LiveView(options.port)) if options.view else None
        if view is not None:
            operator.tell(f"live view: {view.url}")
        session = Drive(in_fact, workcell, planner, operator, view=view, box_m=box_m)
        with patient():  # the arm is stopped and the episode written, however long a plan takes
            session.run(finish)
