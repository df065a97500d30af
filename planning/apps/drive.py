"""Drive an arm toward goal images: connect, confirm, run the episodes, write what happened."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from planning.agent import PlanningAgent
from planning.apps.drive_recorder import Recorder
from planning.apps.drive_summary import drive_summary
from planning.apps.evaluate import episode_seed
from planning.apps.open_workcell import open_workcell
from planning.apps.operator import (
    Operator,
    is_attended,
    require_motion_confirmation,
    require_recovery_confirmation,
    step_question,
)
from planning.apps.policies import SIMULATED_BOX_M, open_policy, point
from planning.apps.workcell import NO_SCRIPTED_GOALS, Workcell, arm_model, read_limits, safe_arm
from planning.arm_options import REAL_ROBOTS, DriveOptions
from planning.drive_log import DriveLog
from planning.driving import Step, drive_episode
from planning.errors import DriveError, PlanError
from planning.goals import GoalPicture, read_goals
from planning.policy import Box, Policy
from planning.protocols import SubGoal
from planning.report.live_view import LiveView
from planning.report.page import write_report
from planning.rollout import Episode
from robot.errors import ArmError, ReflexError, RobotError

log = logging.getLogger(__name__)

Finish = Callable[[dict[str, Any], Path], None]
"""Takes the summary and the report's path, also when the drive ends in an error."""


def check_drive(options: DriveOptions) -> None:
    """Refuse options that cannot work, before anything is connected.

    Raises:
        PlanError: there are neither goals nor a task, or the goals cannot be read.
        DriveError: a real arm without goals.
    """
    real = options.workcell.robot in REAL_ROBOTS
    if real and not options.goals:
        raise DriveError(NO_SCRIPTED_GOALS)
    if not options.goals and not options.workcell.scene.task:
        raise PlanError("There is no goal. Give goals=FOLDER (`capture-goal`) or task=reach.")
    if options.goals:
        read_goals(options.goals, options.steps)
    if options.workcell.limits:
        read_limits(options.workcell.limits)


def plan_box(options: DriveOptions) -> Box | None:
    """Return the flange positions that plans of a real arm may lead to; None for simulations."""
    if options.workcell.robot not in REAL_ROBOTS:
        return None
    limits = read_limits(options.workcell.limits or options.workcell.robot)
    return point(limits.flange_low_m), point(limits.flange_high_m)


class Drive:
    """Episodes of one connected workcell.

    Args:
        options: of the drive.
        workcell: arm and camera, connected.
        policy: plans.
        operator: the person beside the arm.
        view: live page; None for none.
        box_m: flange positions that plans may lead to, as logged; None: the simulated workcell's.
    """

    def __init__(
        self,
        options: DriveOptions,
        workcell: Workcell,
        policy: Policy,
        operator: Operator,
        *,
        view: LiveView | None = None,
        box_m: Box | None = None,
    ) -> None:
        self.options, self.workcell, self.policy = options, workcell, policy
        self.operator, self.view, self.box_m = operator, view, box_m
        self.agent = PlanningAgent(policy)
        self.out = Path(options.out)
        self.ended: list[str] = []
        self.reasons: Counter[str] = Counter()

    def goals(self) -> list[SubGoal]:
        """Return the goal images that were given, else those of the present scene."""
        if self.options.goals:
            return list(read_goals(self.options.goals, self.options.steps))
        return self.workcell.sub_goals(self.options.sub_goals)

    def header(self, seed: int) -> dict[str, Any]:
        """Return what a replay needs to plan and judge again."""
        return {
            "options": dataclasses.asdict(self.options),
            "seed": seed,
            "box_m": self.box_m,
            "threads": torch.get_num_threads(),
            "limits": dataclasses.asdict(self.workcell.limits),
            "kinematics": arm_model(self.options.workcell),
            "specs": {
                "observation": dict(vars(self.policy.model.observation_spec)),
                "action": dict(vars(self.policy.model.action_spec)),
                "arm": dataclasses.asdict(self.workcell.spec),
            },
        }

    def run(self, finish: Finish) -> None:
        """Run all episodes; the finished ones are summed up even when an error ends the drive."""
        episodes: list[Episode] = []
        try:
            for index in range(self.options.episodes):
                self._prepare_scene(index)
                last = index + 1 == self.options.episodes
                episodes.append(self.run_episode(index, lose_one_for=self._tolerated(last=last)))
        finally:
            summary = drive_summary(self.options, episodes, self.ended, self.reasons)
            title = f"drive {self.options.workcell.robot}: {summary['task']}"
            finish(summary, write_report(self.out, title, summary, episodes))

    def _prepare_scene(self, index: int) -> None:
        """Let a person set the scene up again, and look at an arm that is stopped."""
        cell, motion = self.options.workcell, self.options.motion
        if index and cell.robot in REAL_ROBOTS and motion.confirm:
            self.operator.ask("Set the scene up, then press Enter: ")
        require_recovery_confirmation(self.operator, self.workcell, cell, motion)

    def _tolerated(self, *, last: bool) -> tuple[type[ArmError], ...]:
        """Return errors that end one episode only: the arm is recovered before the next."""
        if not last and is_attended(self.options.workcell, self.options.motion):
            return (ArmError,)
        return (ReflexError,) if self.workcell.auto_recovers else ()

    def run_episode(self, index: int, *, lose_one_for: tuple[type[ArmError], ...] = ()) -> Episode:
        """Run one episode; its log and recording are kept however it ends."""
        seed = episode_seed(self.options.seed, index)
        self.workcell.begin(seed)
        goals = self.goals()
        shown = [self._as_seen(goal) for goal in goals]
        episode = Episode(self.options.workcell.scene.task or "goals", seed, goals=shown)
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{index:03d}"
        records = DriveLog(self.out / "logs" / stamp, self.header(seed), goals)
        recorder = Recorder(self.options, self.workcell, episode, self.policy.preprocess)
        if self.view is not None:
            self.view.begin(goals)
        ended = "the program failed"
        try:
            ended = self._follow(goals, seed, records, recorder, f"episode {index}")
            if ended:
                self._stop(records)
        except BaseException as error:
            ended = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{error}"
            self._stop(records)
            if not isinstance(error, lose_one_for):
                raise
            self.operator.tell(f"episode {index} ended: {error}")
        finally:
            recorder.close(ended, self._judge if self.options.judge else None)
            self.ended.append(ended)
            self.reasons.update(recorder.reasons)
            error_m = float(episode.error_m)
            records.end(
                ended=ended or "budgets spent",
                success=episode.success,
                error_m=error_m if math.isfinite(error_m) else None,
                data=recorder.write(self.out, stamp, ended),
            )
        return episode

    def _as_seen(self, goal: SubGoal) -> SubGoal:
        """Return a goal with its image as the model sees it, for the report."""
        image = self.policy.preprocess(goal.image)
        return GoalPicture(goal.name, image, goal.state, goal.steps)

    def _judge(self) -> bool:
        return self.operator.ask("Did it succeed? [y/N] ").lower() in ("y", "yes")

    def _follow(
        self, goals: list[SubGoal], seed: int, records: DriveLog, recorder: Recorder, title: str
    ) -> str:
        cell, motion = self.options.workcell, self.options.motion
        with (
            (records.folder / "safety.jsonl").open("w", encoding="utf-8") as file,
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
                listen=self._listener(records, recorder, bar),
                max_age_s=math.inf if self.workcell.simulated else self.options.max_plan_s,
            )

    def _listener(
        self, records: DriveLog, recorder: Recorder, bar: tqdm[Any]
    ) -> Callable[[Step], None]:
        def listen(step: Step) -> None:
            records.step(step)
            recorder.step(step)
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

    def _stop(self, records: DriveLog) -> None:
        """Stop the arm, whatever state it is in."""
        try:
            self.workcell.arm.stop()
            records.write({"kind": "stopped", "time_s": time.time()})
        except RobotError as error:
            log.warning("The arm did not accept the stop (%s). Use the emergency stop.", error)
            records.write({"kind": "stop failed", "time_s": time.time(), "error": str(error)})


def drive(options: DriveOptions, operator: Operator, finish: Finish) -> None:
    """Connect, ask for permission, and run all episodes.

    Args:
        options: of the drive.
        operator: the person beside the arm.
        finish: takes summary and report of the finished episodes, also when an error ends the
            drive.

    Raises:
        PlanError, DriveError: the drive cannot begin.
        RobotError: the arm or the camera failed.
    """
    check_drive(options)
    cell = options.workcell
    box_m = plan_box(options)
    policy = open_policy(options.model, options.planner, device=options.device, axes=options.axes)
    with ExitStack() as stack:
        workcell = stack.enter_context(open_workcell(cell, max(policy.image_size)))
        policy.connect(workcell.spec, box_m or SIMULATED_BOX_M)
        what = f"{options.episodes} episode(s)"
        require_motion_confirmation(operator, workcell, cell, options.motion, what)
        view = stack.enter_context(LiveView(options.port)) if options.view else None
        if view is not None:
            operator.tell(f"live view: {view.url}")
        session = Drive(options, workcell, policy, operator, view=view, box_m=box_m)
        session.run(finish)
