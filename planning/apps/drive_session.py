"""Episodes of a drive on a connected workcell; each one that began is in log and report."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from planning.apps.drive_planner import DrivePlanner
from planning.apps.drive_recorder import OpenEpisode, Recorder
from planning.apps.drive_summary import drive_summary
from planning.apps.failures import exceptions_of, have_all_failed, log_failure
from planning.apps.operator import (
    Operator,
    is_attended,
    require_recovery_confirmation,
    step_question,
)
from planning.apps.workcell import Workcell, arm_model, safe_arm
from planning.arm_options import DriveOptions
from planning.drive_log import DriveLog, new_folder
from planning.driving import Step, drive_episode
from planning.goals import GoalPicture, read_goals
from planning.protocols import Box, SubGoal
from planning.report.live_view import LiveView
from planning.report.page import write_report
from planning.report.recording import write_recordings
from planning.rollout import Episode, episode_seed, fail_by
from planning.workcell_options import is_real
from robot.errors import ArmError, ReflexError, RobotError
from worldmodel.atomic_io import no_links
from worldmodel.shutdown import deferred_stop, follows_a_signal, name_of

log = logging.getLogger(__name__)

Finish = Callable[[dict[str, Any], Path], None]
"""Callback for the summary and the report's path, also called if the drive ends in an error."""


class Drive:
    """Runs episodes on a connected workcell.

    Args:
        options: Options of the drive.
        workcell: Connected arm and camera.
        planner: Plans the actions; connected to the workcell's arm.
        operator: The operator beside the arm.
        view: Live web page, or None.
        box_m: Workspace of planned flange positions, which is logged; None uses the simulated
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
        self.errors: list[BaseException] = []
        """Exceptions that each ended one episode of a simulated or attended arm."""
        self.open: OpenEpisode | None = None
        """The episode in progress, until everything about it is written."""
        self.reasons: Counter[str] = Counter()

    @property
    def _task(self) -> str:
        """Name of the task in the report."""
        return self.options.workcell.task_name

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
        """Run all episodes; summarise those that began even if an error ends the drive.

        Raises:
            Exception: An exception ended each episode; the first one of them.
        """
        interrupted = False
        try:
            for index in range(self.options.episodes):
                self._prepare_scene(index)
                last = index + 1 == self.options.episodes
                self.run_episode(index, last=last)
            if len(self.errors) == self.options.episodes:
                raise self.errors[0]
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
        if not have_all_failed(self.episodes):  # else an error follows
            summary |= exceptions_of(self.out, {"drive": self.episodes})
        try:
            if with_imagined:
                self.planner.add_imagined(self.episodes)
        except Exception as error:  # noqa: BLE001 - these pictures must not cost the report
            log.warning("The report has no imagined pictures (%s).", error)
        title = f"drive {self.options.workcell.name}: {summary['task']}"
        finish(summary, write_report(self.out, title, summary, self.episodes))
        if self.options.rerun:
            write_recordings(self.out / "rerun", self.episodes)

    def _prepare_scene(self, index: int) -> None:
        """Let the operator reset the scene and inspect a stopped arm."""
        cell, motion = self.options.workcell, self.options.motion
        if index and is_real(cell.robot) and motion.confirm:
            self.operator.ask("Set the scene up, then press Enter: ")
        require_recovery_confirmation(self.operator, self.workcell, cell, motion)

    def _ends_only_the_episode(self, error: BaseException, *, last: bool) -> bool:
        """Return whether the next episode may follow, since arm and scene are prepared before it.

        An arm that a person attends is inspected between episodes. A simulated one is reset, which
        is enough after anything but an error of its own or of the disk.
        """
        if follows_a_signal(error):
            return False
        attended = not last and is_attended(self.options.workcell, self.options.motion)
        if isinstance(error, RobotError | OSError):
            reflex = self.workcell.auto_recovers and isinstance(error, ReflexError)
            return reflex or (attended and isinstance(error, ArmError))
        return isinstance(error, Exception | SystemExit) and (attended or self.workcell.simulated)

    def run_episode(self, index: int, *, last: bool = True) -> None:
        """Run one episode; its log, recording and pictures are kept even if it fails.

        Args:
            index: Number of the episode, which its seed follows from.
            last: Whether no episode follows, so that an error ends the drive of an attended arm.
        """
        seed, begun = episode_seed(self.options.seed, index), len(self.episodes)
        failure: BaseException | None = None
        try:
            self.workcell.begin(seed, self.options.sub_goals)
            goals = self.goals()
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
            if not self._ends_only_the_episode(error, last=last):
                raise
            self.operator.tell(f"episode {index} ended: {_why(error)}")
            failure = None if isinstance(error, RobotError) else error
        finally:
            with deferred_stop():
                self._close_episode()
        if failure is not None:
            if len(self.episodes) == begun:  # it could not begin
                self.episodes.append(Episode(self._task, seed))
                self.ended.append(_why(failure))
            self.errors.append(failure)
            fail_by(self.episodes[-1], failure)
            self.episodes[-1].reason = self.ended[-1]
            log_failure(self.out, "drive", self.episodes[-1])

    def _open_episode(self, index: int, seed: int, goals: list[SubGoal]) -> OpenEpisode:
        """Create the log, the recording and the report's record of an episode."""
        shown = [self._as_seen(goal) for goal in goals]
        episode = Episode(self._task, seed, goals=shown)
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{index:03d}"
        views = self.planner.views
        main = views[0] if len(views) > 1 else "left"
        recorder = Recorder(self.options, self.workcell, episode, self.planner.preprocess, main)
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
                others=self.workcell.checked_views(),
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
    """Return what ended an episode, in one line: the signal, or the error's text."""
    if isinstance(error, KeyboardInterrupt):
        return name_of(error)
    return " ".join(str(error).split()) or type(error).__name__
