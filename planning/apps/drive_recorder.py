"""Record an episode of a drive: for its log, for the report, and as a DROID recording."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planning.apps.workcell import Workcell
from planning.arm_options import DriveOptions
from planning.drive_log import DriveLog
from planning.driving import Image, Step
from planning.rollout import Episode, failure_reason, final_error_m
from planning.workcell_options import is_users
from robot.errors import RobotError
from robot.pose import gripper_command
from robot.record import Recording
from worldmodel.data.writers.droid import write_episode
from worldmodel.shutdown import deferred_stop

log = logging.getLogger(__name__)


class Recorder:
    """Records the steps of an episode.

    Args:
        options: Options of the drive.
        workcell: Arm and, in simulation, the task's success criterion.
        episode: The report's record, filled in by the recorder.
        as_seen: Returns an image pre-processed for the model, for the report.
        main: Name of the main camera in the recording.
    """

    def __init__(
        self,
        options: DriveOptions,
        workcell: Workcell,
        episode: Episode,
        as_seen: Callable[[Image], Image],
        main: str = "left",
    ) -> None:
        self.options, self.workcell, self.episode = options, workcell, episode
        self.as_seen, self.main = as_seen, main
        self.recording, self.reasons = Recording(), Counter[str]()
        self.trace: list[dict[str, Any]] = []
        info = workcell.info()
        self.judged = bool(info) and not options.goals
        if info:
            self.trace.append(info)

    def step(self, step: Step) -> None:
        """Record a step."""
        sent: NDArray[np.float64] = np.zeros(7)
        target = np.asarray(step.state.state, dtype=np.float64)
        info = self.workcell.info()
        if step.decision is not None and step.sent is not None and not step.sent.refused:
            sent = np.append(step.sent.action[:6], gripper_command(float(step.decision.action[6])))
            target = step.sent.target
        others = {name: frame.image for name, frame in step.others.items()}
        on_arm_clock = self.workcell.simulated and self.options.motion.execute
        self.recording.add(
            frames={self.main: step.frame.image, **others},
            state=np.asarray(step.state.state),
            joints=np.asarray(step.state.q),
            action=sent,
            target=target,
            time_s=1.0 + (step.state.time_s if on_arm_clock else step.frame.time_s),
            object_m=None if info is None else self.trace[-1].get("object_m"),
        )
        if info:
            self.trace.append(info)
        self._note(step)

    def _note(self, step: Step) -> None:
        episode = self.episode
        episode.frames.append(self.as_seen(step.image))
        if step.decision is None or step.sent is None:
            return
        if step.decision.skills is not None:
            episode.decisions.append(replace(step.decision.skills, step=len(episode.actions)))
        episode.actions.append([float(x) for x in step.decision.action])
        episode.energies.append(step.decision.energy)
        episode.model_calls.append(step.decision.model_calls)
        episode.model_frames.append(step.decision.model_frames)
        episode.sub_goals.append(step.decision.sub_goal)
        for name, seconds in step.seconds.items():
            episode.seconds.setdefault(name, []).append(seconds)
        self.reasons.update(reason.kind for reason in step.sent.reasons)

    def close(self, ended: str, verdict: bool | None = None) -> None:
        """Determine the outcome of the episode.

        Args:
            ended: Why it ended early; empty when the step budgets were spent.
            verdict: The operator's judgement, if the scene cannot determine success.
        """
        episode, task = self.episode, self.options.workcell.task_name
        if self.judged:
            last = self.trace[-1]
            episode.success = bool(last["success"]) and not ended
            episode.ever = any(bool(info["success"]) for info in self.trace)
            episode.error_m = final_error_m(task, last)
            failure = "" if episode.success else failure_reason(task, self.trace)
            episode.reason = ended or failure
            return
        if self.recording.states and episode.goals:
            gap = self.recording.states[-1][:3] - episode.goals[-1].state[:3]
            episode.error_m = float(np.linalg.norm(gap))
        if verdict is not None and not ended:
            episode.success = verdict
            episode.reason = "" if episode.success else "a person's judgement"
        else:
            episode.reason = ended or "not judged"

    def write(self, out: Path, stamp: str, ended: str) -> str:
        """Write the recording under `out`/data.

        Returns:
            Path of its folder below `out`; empty if there are fewer than two rows.
        """
        if len(self.recording.states) < 2:
            return ""
        cell, real = self.options.workcell, not self.workcell.simulated
        serial = f"{cell.franka.arm}-{cell.franka.address}" if real else f"fr3-{cell.robot}"
        serial = cell.name if is_users(cell.robot) or cell.environment else serial
        facts = {
            "user": "operator" if real else "simulation",
            "ended": ended or "budgets spent",
            "robot_serial": serial,
            "execute": self.options.motion.execute,
            "model": self.options.model,
            "log": f"logs/{stamp}",
        }
        folder = write_episode(
            out / "data",
            self.recording,
            success=self.episode.success,
            task=cell.task_name,
            lab="REAL" if real else "SIM",
            stamp=stamp,
            date=time.strftime("%Y-%m-%d"),
            metadata=facts,
        )
        return str(folder.relative_to(out))


@dataclass
class OpenEpisode:
    """An episode in progress, whose end is written whatever ends it."""

    records: DriveLog
    recorder: Recorder
    ended: str = "the program failed"
    """Why it ended early; empty if the step budgets were spent."""
    verdict: bool | None = None
    """The operator's judgement; None if nobody was asked."""

    def step(self, step: Step) -> None:
        """Log and record a step; a signal waits until it is in both."""
        with deferred_stop():
            self.records.step(step)
            self.recorder.step(step)

    def stop_arm(self) -> None:
        """Stop the arm in any state, and log it if the disk allows."""
        row: dict[str, Any] = {"kind": "stopped"}
        try:
            self.recorder.workcell.arm.stop()
        except RobotError as error:
            log.warning("The arm did not accept the stop (%s). Use the emergency stop.", error)
            row = {"kind": "stop failed", "error": str(error)}
        try:
            self.records.write(row | {"time_s": time.time()})
        except OSError as error:
            log.warning("The stop is not in the log (%s).", error)

    def close(self, out: Path) -> None:
        """Write the recording and the end of the log, which is written in any case.

        Args:
            out: Output folder of the drive.
        """
        recorder, ended, data = self.recorder, self.ended, ""
        try:
            recorder.close(ended, self.verdict)
            data = recorder.write(out, self.records.folder.name, ended)
        finally:
            error_m = float(recorder.episode.error_m)
            self.records.end(
                ended=ended or "budgets spent",
                success=recorder.episode.success,
                error_m=error_m if math.isfinite(error_m) else None,
                data=data,
            )
