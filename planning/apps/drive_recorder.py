"""Record an episode of a drive for the report and as a DROID recording."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planning.apps.workcell import Workcell
from planning.arm_options import DriveOptions
from planning.driving import Image, Step
from planning.rollout import Episode, failure_reason, final_error_m
from robot.pose import gripper_command
from robot.record import Recording
from worldmodel.data.writers.droid import write_episode

Judge = Callable[[], bool]
"""Asks the operator whether the episode succeeded."""


class Recorder:
    """Records the steps of an episode.

    Args:
        options: options of the drive.
        workcell: arm and, in simulation, the task's success criterion.
        episode: the report's record, filled in by the recorder.
        as_seen: returns an image pre-processed for the model, for the report.
    """

    def __init__(
        self,
        options: DriveOptions,
        workcell: Workcell,
        episode: Episode,
        as_seen: Callable[[Image], Image],
    ) -> None:
        self.options, self.workcell, self.episode = options, workcell, episode
        self.as_seen = as_seen
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
        on_arm_clock = self.workcell.simulated and self.options.motion.execute
        self.recording.add(
            frames={"left": step.frame.image},
            state=np.asarray(step.state.state),
            joints=np.asarray(step.state.q),
            action=sent,
            target=target,
            time_s=1.0 + (step.state.time_s if on_arm_clock else step.frame.time_s),
            object_m=None if info is None else self.trace[-1]["object_m"],
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
        episode.sub_goals.append(step.decision.sub_goal)
        for name, seconds in step.seconds.items():
            episode.seconds.setdefault(name, []).append(seconds)
        self.reasons.update(reason.kind for reason in step.sent.reasons)

    def close(self, ended: str, judge: Judge | None = None) -> None:
        """Determine the outcome of the episode.

        Args:
            ended: why it ended early; empty when the step budgets were spent.
            judge: asked if the scene cannot determine success.
        """
        episode, task = self.episode, self.options.workcell.scene.task
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
        if judge is not None and not ended:
            episode.success = judge()
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
            task=cell.scene.task or "goals",
            lab="REAL" if real else "SIM",
            stamp=stamp,
            date=time.strftime("%Y-%m-%d"),
            metadata=facts,
        )
        return str(folder.relative_to(out))
