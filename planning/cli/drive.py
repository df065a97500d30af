"""`worldmodel drive`: the agent moves an arm toward goal images; dry run unless told otherwise."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from envs.tasks import get_task
from planning.agent import PlanningAgent
from planning.apps.workcell import (
    Workcell,
    WorkcellOptions,
    _text,
    ask,
    is_attended,
    open_workcell,
    require_motion_confirmation,
    require_recovery_confirmation,
    safe_arm,
)
from planning.cli.eval import FIRST_SEED, planner_config, summarise
from planning.cli.eval import Options as EvalOptions
from planning.drive_log import DriveLog
from planning.driving import Step, drive_episode
from planning.errors import DriveError, PlanError
from planning.goals import read_goals
from planning.metrics import median_p95
from planning.planner import Planner
from planning.protocols import SubGoal
from planning.report.live_view import LiveView
from planning.report.page import write_report
from planning.rollout import Episode, failure_reason, final_error_m
from robot.calibrate import Axes
from robot.errors import ArmError, ReflexError, RobotError
from robot.pose import gripper_command
from robot.record import Recording
from robot.safety.layer import SafeArm
from worldmodel.checkpoints.io import load
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.droid import write_episode

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Options(WorkcellOptions):
    """Options of `worldmodel drive`."""

    model: str = _text("default", "embedded or published name, or a file")
    device: str = _text("auto", "auto, cpu or cuda")
    goals: Any = field(
        default="", metadata={"help": "pictures in order: FOLDER or [a.png,b.png]; empty: task's"}
    )
    steps: list[int] = field(
        default_factory=list, metadata={"help": "budget of each goal, as [8,4]"}
    )
    episodes: int = _text(1, "how many")
    sub_goals: str = _text("default", "the task's: default, three or one")
    axes: str = _text("", "file of `worldmodel calibrate axes`")
    transform: str = _text("droid", "camera frame to model input: droid, published or squeeze")
    optimiser: str = _text("cem", "cem, icem or mppi")
    samples: int = _text(150, "plans imagined in an iteration")
    iterations: int = _text(4, "of the optimiser")
    elites: int = _text(12, "kept of each iteration")
    horizon: int = _text(1, "actions imagined ahead")
    max_plan_s: float = _text(
        5.0, "franka: oldest frame whose plan is still sent; the scene may have changed"
    )
    judge: bool = _text(False, "ask after each episode whether it succeeded")
    view: bool = _text(False, "serve a page with camera, goal, energy and plan")
    port: int = _text(0, "of that page (0: a free one)")
    out: str = _text("runs/drive", "folder of summary.json, report.html, data/ and logs/")


def eval_options(options: Options) -> EvalOptions:
    """The part that `worldmodel eval` has too."""
    names = (
        "model",
        "episodes",
        "seed",
        "split",
        "objects",
        "sub_goals",
        "optimiser",
        "samples",
        "iterations",
        "elites",
        "horizon",
    )
    return EvalOptions(
        task=options.task or "goals", baselines=False, **{n: getattr(options, n) for n in names}
    )


def make_agent(
    options: Options, box_m: tuple[Any, Any] | None = None
) -> tuple[PlanningAgent, Preprocess]:
    """The planning agent and the transform of its pictures.

    Args:
        options: model, planner, axes.
        box_m: lowest and highest flange position of the plans; None: the simulated workcell's.
    """
    world = load(options.model, options.device)
    config = planner_config(eval_options(options), world.convention.gripper)
    if box_m is not None:
        bounds = replace(config.bounds, low_m=tuple(box_m[0]), high_m=tuple(box_m[1]))
        config = replace(config, bounds=bounds)
    axes = Axes.read(Path(options.axes)).matrix if options.axes else None
    kind: Any = options.transform
    return PlanningAgent(Planner(world, config), axes=axes), Preprocess(kind, world.image_size)


@dataclass
class Run:
    """What one drive shares among its episodes."""

    options: Options
    workcell: Workcell
    agent: PlanningAgent
    prepare: Callable[[Any], Any]
    out: Path
    box_m: list[list[float]] | None
    view: LiveView | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    ended: list[str] = field(default_factory=list)

    def goals(self) -> list[SubGoal]:
        """Sub-goals of the scene that stands now, at the model's size."""
        given = self.options.goals
        raw = read_goals(given, self.options.steps) if given else []
        raw = raw or self.workcell.sub_goals(self.options.sub_goals)
        return [dataclasses.replace(g, image=self.prepare(g.image)) for g in raw]


class Recorder:
    """Keeps an episode: for the report, and as rows of a DROID recording."""

    def __init__(self, run: Run, episode: Episode) -> None:
        self.run, self.episode, self.recording = run, episode, Recording()
        self.trace: list[dict[str, Any]] = []
        info = run.workcell.info()
        self.judged = bool(info) and not run.options.goals
        if info:
            self.trace.append(info)

    def step(self, step: Step) -> None:
        """Take a step."""
        sent = np.zeros(7)
        target = np.asarray(step.state.state, dtype=np.float64)
        moved = step.sent is not None and not step.sent.refused
        info = self.run.workcell.info()
        if moved and step.decision is not None and step.sent is not None:
            sent = np.append(step.sent.action[:6], gripper_command(float(step.decision.action[6])))
            target = step.sent.target
        on_arm_clock = self.run.workcell.simulated and self.run.options.execute
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
        e = self.episode
        e.frames.append(step.image)
        if step.decision is None or step.sent is None:
            return
        e.actions.append([float(x) for x in step.decision.action])
        e.energies.append(step.decision.energy)
        e.sub_goals.append(step.decision.sub_goal)
        for name, seconds in step.seconds.items():
            e.seconds.setdefault(name, []).append(seconds)
        self.run.reasons.update(reason.kind for reason in step.sent.reasons)

    def close(self, ended: str) -> None:
        """Judge the episode."""
        e, task = self.episode, self.run.options.task
        if self.judged:
            last = self.trace[-1]
            e.success = bool(last["success"]) and not ended
            e.ever = any(bool(t["success"]) for t in self.trace)
            e.error_m = final_error_m(task, last)
            e.reason = ended or ("" if e.success else failure_reason(task, self.trace))
            return
        if self.recording.states and e.goals:
            gap = self.recording.states[-1][:3] - e.goals[-1].state[:3]
            e.error_m = float(np.linalg.norm(gap))
        if self.run.options.judge and not ended:
            e.success = ask("Did it succeed? [y/N] ").lower() in ("y", "yes")
            e.reason = "" if e.success else "a person's judgement"
        else:
            e.reason = ended or "not judged"

    def write(self, stamp: str, ended: str) -> str:
        """Write the recording; its folder's path, empty for less than two rows."""
        options = self.run.options
        if len(self.recording.states) < 2:
            return ""
        real = not self.run.workcell.simulated
        facts = {
            "user": "operator" if real else "simulation",
            "ended": ended or "budgets spent",
            "robot_serial": f"{options.arm}-{options.address}" if real else f"fr3-{options.robot}",
            "execute": options.execute,
            "model": options.model,
            "log": f"logs/{stamp}",
        }
        folder = write_episode(
            self.run.out / "data",
            self.recording,
            success=self.episode.success,
            task=options.task or "goals",
            lab="REAL" if real else "SIM",
            stamp=stamp,
            date=time.strftime("%Y-%m-%d"),
            metadata=facts,
        )
        return str(folder.relative_to(self.run.out))


def _listener(run: Run, records: DriveLog, recorder: Recorder, bar: Any) -> Callable[[Step], None]:
    def listen(step: Step) -> None:
        records.step(step)
        recorder.step(step)
        if run.view is not None:
            run.view.step(step)
        if step.decision is None or step.sent is None:
            return
        bar.update(1)
        bar.set_postfix(energy=f"{step.decision.energy:.3f}", goal=step.decision.sub_goal + 1)
        shown = [str(r) for r in step.sent.reasons if r.kind != "dry run"]
        if shown:
            bar.write(f"step {step.index}: {'; '.join(shown)}")

    return listen


def _stop(run: Run, records: DriveLog) -> None:
    """Stop the arm, whatever state it is in."""
    try:
        run.workcell.arm.stop()
        records.write({"kind": "stopped", "time_s": time.time()})
    except RobotError as error:
        log.warning("the arm did not take the stop (%s): use the emergency stop", error)
        records.write({"kind": "stop failed", "time_s": time.time(), "error": str(error)})


def one_episode(run: Run, index: int, *, costs_one: tuple[type[ArmError], ...] = ()) -> Episode:
    """Drive one episode; log and recording are kept however it ends.

    Args:
        run: what the episodes share.
        index: of the episode.
        costs_one: errors that end this episode only: a person sees to the arm before the next, or
            the simulation begins anew.
    """
    options = run.options
    seed = FIRST_SEED + 10_000 * options.seed + index
    run.workcell.begin(seed)
    goals = run.goals()
    episode = Episode(options.task or "goals", seed, goals=goals)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{index:03d}"
    header = {
        "options": dataclasses.asdict(options),
        "seed": seed,
        "box_m": run.box_m,
        "threads": torch.get_num_threads(),
        "limits": dataclasses.asdict(run.workcell.limits),
    }
    records = DriveLog(run.out / "logs" / stamp, header, goals)
    recorder = Recorder(run, episode)
    if run.view is not None:
        run.view.begin(goals)
    ended = "the program failed"
    try:
        with (
            (records.folder / "safety.jsonl").open("w", encoding="utf-8") as file,
            tqdm(total=sum(g.steps for g in goals), desc=f"episode {index}", unit="step") as bar,
        ):
            safe: SafeArm = safe_arm(options, run.workcell, file)
            ended = drive_episode(
                safe,
                run.workcell.checked(),
                run.agent,
                goals,
                seed=seed,
                prepare=run.prepare,
                listen=_listener(run, records, recorder, bar),
                max_age_s=math.inf if run.workcell.simulated else options.max_plan_s,
            )
        if ended:
            _stop(run, records)
    except BaseException as error:
        ended = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{error}"
        _stop(run, records)
        if not isinstance(error, costs_one):
            raise
        print(f"episode {index} ended: {error}")
    finally:
        recorder.close(ended)
        run.ended.append(ended)
        data = recorder.write(stamp, ended)
        records.end(
            ended=ended or "budgets spent",
            success=episode.success,
            error_m=None if not np.isfinite(episode.error_m) else episode.error_m,
            data=data,
        )
    return episode


def drive_summary(run: Run, episodes: list[Episode]) -> dict[str, Any]:
    """Figures of a drive: those of `eval`, and what it is of a robot."""
    options = run.options
    summary = summarise(eval_options(options), episodes, {})
    parts: dict[str, list[float]] = {}
    for episode in episodes:
        for name, values in episode.seconds.items():
            parts.setdefault(name, []).extend(values)
    cycles = [float(sum(row)) for row in zip(*parts.values(), strict=True)]
    if not any(np.isfinite(e.error_m) for e in episodes):
        summary["final_error_m"] = {"median": None, "p95": None}
    if options.goals and not options.judge:
        summary |= {"successes": None, "success_rate": None, "ci95": None}
    return summary | {
        "robot": options.robot,
        "execute": options.execute,
        "dry_run": not options.execute,
        "cycle_s": median_p95(cycles),
        "cycle_parts_s": {name: median_p95(values) for name, values in parts.items()},
        "reasons": dict(run.reasons),
        "stopped": [e for e in run.ended if e],
        "axes": options.axes,
        "data": "data",
        "logs": "logs",
    }


def check(options: Options) -> None:
    """Refuse options that cannot work, before anything is connected.

    Raises:
        PlanError: neither goals nor a task, or no episode.
    """
    if options.episodes < 1:
        raise PlanError(f"episodes={options.episodes}; wanted at least 1")
    if options.task:
        get_task(options.task)
    if not options.goals and not options.task:
        raise PlanError("Nothing to do: give goals=FOLDER (`capture-goal`) or task=reach")
    if options.robot == "franka" and not options.goals:
        raise DriveError("A real arm has no scripted goals: give goals=FOLDER (`capture-goal`)")
    if options.goals:
        read_goals(options.goals, options.steps)


def _between(run: Run, index: int) -> None:
    """Let a person set the scene up again, and see to an arm that is stopped."""
    if index and run.options.robot == "franka" and run.options.confirm:
        ask("Set the scene up, then press Enter: ")
    require_recovery_confirmation(run.options, run.workcell)


def drive(run: Run) -> list[Episode]:
    """Drive all episodes; finished ones are summed up even when one ends in an error."""
    episodes: list[Episode] = []
    try:
        for index in range(run.options.episodes):
            _between(run, index)
            more = index + 1 < run.options.episodes
            costs_one: tuple[type[ArmError], ...] = (
                (ReflexError,) if run.workcell.auto_recovers else ()
            )
            if more and is_attended(run.options):
                costs_one = (ArmError,)
            episodes.append(one_episode(run, index, costs_one=costs_one))
    finally:
        summary = drive_summary(run, episodes)
        title = f"drive {run.options.robot}: {run.options.task or 'goals'}"
        page = write_report(run.out, title, summary, episodes)
        print_summary(summary, page)
    return episodes


def print_summary(summary: dict[str, Any], page: Path) -> None:
    """The outcome in a few lines."""
    if summary["successes"] is not None:
        print(f"successes {summary['successes']}/{summary['episodes']}")
    cycle, parts = summary["cycle_s"]["median"], summary["cycle_parts_s"]
    if cycle is not None:
        shares = ", ".join(f"{name} {row['median']:.3f}" for name, row in parts.items())
        print(f"cycle, median: {cycle:.3f} s ({shares})")
    if summary["reasons"]:
        print(f"reasons: {json.dumps(summary['reasons'])}")
    for why in summary["stopped"]:
        print(f"ended early: {why}")
    print(page)


def run(options: Options) -> int:
    """Connect, ask, drive, sum up."""
    check(options)
    real = options.robot == "franka"
    with contextlib.ExitStack() as stack:
        workcell = stack.enter_context(open_workcell(options))
        box = (
            [list(workcell.limits.flange_low_m), list(workcell.limits.flange_high_m)]
            if real
            else None
        )
        agent, transform = make_agent(options, None if box is None else (box[0], box[1]))

        def prepare(image: Any) -> Any:
            return transform(torch.as_tensor(np.ascontiguousarray(image))).numpy()

        require_motion_confirmation(options, workcell, f"{options.episodes} episode(s)")
        view = stack.enter_context(LiveView(options.port)) if options.view else None
        if view is not None:
            print(f"live view: {view.url}", flush=True)
        drive(Run(options, workcell, agent, prepare, Path(options.out), box, view))
    return 0
