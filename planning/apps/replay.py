"""Replay a drive's log: replan its steps and recheck its commands."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from planning.apps.logged_planner import logged_planner
from planning.apps.own_encoder import open_world, split_code
from planning.apps.policies import make_planning_agent, open_policy
from planning.apps.safety_replay import replay_safety_log
from planning.apps.workspace import SIMULATED_BOX_M, point
from planning.drive_log import LOG, Logged, read_log, reading_log
from planning.errors import PlanError
from planning.goals import GoalPicture
from planning.options import Precision, ReplayOptions
from planning.plugins import is_own
from planning.protocols import Agent, SubGoal
from planning.report.page import write_report
from planning.report.recording import require_rerun, write_recordings
from planning.report.video import webp_bytes
from planning.report.views import beside_goals
from planning.rollout import Episode
from robot.arm import ArmSpec
from worldmodel.atomic_io import write_bytes
from worldmodel.models.preprocess import Preprocess
from worldmodel.models.world_model import WorldModel

MAX_THREADS = 4096
LoadModel = Callable[[str, str, Precision], WorldModel]
"""Function that loads a model by name onto a device, in a precision."""


def find_logs(where: str) -> list[Path]:
    """Return the log folders of a run.

    Raises:
        PlanError: The run has no logs.
    """
    root = Path(where)
    if where and (root / LOG).is_file():
        return [root]
    found = sorted(p.parent for p in (root / "logs").glob(f"*/{LOG}")) if where else []
    if not found:
        raise PlanError(f"No logs in {where!r}. Give run=FOLDER, the out= of a `worldmodel drive`.")
    return found


def logged_task(logged: Logged) -> str:
    """Return the task of a drive, or `goals` if it was given by images."""
    options = logged.header["options"]
    scene = options["workcell"]["scene"] if "workcell" in options else options
    return str(scene["task"] or "goals")


def logged_agent(logged: Logged, load: LoadModel, model: str = "") -> Agent:
    """Return the agent of a log, optionally with another model.

    Raises:
        PlanError: An entry of the log is missing or of another kind, or names code to run.
    """
    header, options = logged.header, logged.header["options"]
    with reading_log(logged.folder / LOG):
        # what precision=auto was on the drive's machine; older drives ran in float32
        weights: Precision = header.get("weights", "float32")
        name, device, axes = model or options["model"], options["device"], options["axes"]
        planner = logged_planner(options)
        low, high = (point(corner) for corner in header["box_m"] or SIMULATED_BOX_M)
        arm = ArmSpec(**header["specs"]["arm"]) if "specs" in header else ArmSpec()
        resolved = planner.resolved(one_image=header.get("method", "actions") == "skills")
    if not model and split_code(name)[1]:
        raise PlanError(
            f"The log names the encoder of {name}, and a log never chooses what code runs. Give "
            f"model={name}, or plan=false."
        )
    named = [("optimiser", planner.optimiser)]
    named += [("skill", skill) for skill in planner.skill_search.skills]
    for kind, code in named:
        if not is_own(kind, code):
            raise PlanError(
                f"The log names the {kind} {code}, and a log never chooses what code runs. Give "
                "plan=false to show the drive without planning again."
            )
    world = load(name, device, weights)
    policy = open_policy(world, planner, axes=axes)
    policy.connect(arm, (low, high))
    return make_planning_agent(policy, world, resolved, arm, options.get("precision", "auto"))


def replan(logged: Logged, agent: Agent) -> list[float]:
    """Replan every step; return each step's maximum difference from the logged action.

    They end where the agent has no more actions, as another model may sooner than the drive's.

    Raises:
        PlanError: The log's number of threads is absurd.
    """
    with reading_log(logged.folder / LOG):
        num_threads = int(logged.header["threads"])
        if not 1 <= num_threads <= MAX_THREADS:
            raise ValueError(f"threads is {num_threads}; allowed: 1 to {MAX_THREADS}")
    agent.begin(logged.goals, logged.header["seed"])
    differences = []
    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)  # the rounding of sums depends on it
    try:
        for row in tqdm(logged.steps, desc="planning again", unit="step"):
            decision = agent.act(logged.reading(row))
            if decision is None:
                break
            asked = np.array(row["asked"])
            differences.append(float(np.abs(decision.action - asked).max()))
    finally:
        torch.set_num_threads(threads)
    return differences


def as_seen(logged: Logged, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a logged image pre-processed for the drive's model; older logs hold only that."""
    if "specs" not in logged.header:
        return image
    seen = logged.header["specs"]["observation"]
    height, width = seen["image_size"]
    transform = Preprocess(seen["transform"], (height, width))
    return transform(torch.from_numpy(image)).numpy()


def as_episode(logged: Logged) -> Episode:
    """Return the log as an episode of the report.

    Raises:
        PlanError: An entry of the log is missing or of another kind.
    """
    with reading_log(logged.folder / LOG):
        return _episode(logged)


def _episode(logged: Logged) -> Episode:
    error = logged.end.get("error_m")
    goals: list[SubGoal] = [
        GoalPicture(g.name, as_seen(logged, g.image), g.state, g.steps) for g in logged.goals
    ]
    return Episode(
        logged_task(logged),
        logged.header["seed"],
        success=bool(logged.end.get("success")),
        error_m=float("nan") if error is None else error,
        reason=logged.end.get("ended", "cut off"),
        frames=[as_seen(logged, logged.frame(r["frame"])) for r in logged.steps],
        goals=goals,
        actions=[r["asked"] for r in logged.steps],
        energies=[r["energy"] for r in logged.steps],
        sub_goals=[r["sub_goal"] for r in logged.steps],
    )


def replay_log(logged: Logged, options: ReplayOptions, load: LoadModel) -> dict[str, Any]:
    """Replan the steps of a log and recheck its commands; return the differences."""
    differences = []
    if options.plan:
        differences = replan(logged, logged_agent(logged, load, options.model))
    safety = replay_safety_log(logged)
    return {
        "log": str(logged.folder),
        "steps": len(logged.steps),
        "planned_steps": len(differences),
        "ended": logged.end.get("ended", "cut off"),
        "largest_difference": float(np.max(differences)) if differences else None,
        "safety": None if safety is None else dataclasses.asdict(safety),
    }


def replay(options: ReplayOptions) -> tuple[dict[str, Any], Path]:
    """Replay every log of a run and write the report.

    Returns:
        The summary, with `same` and `safety_same` None if nothing was compared, and the report's
        path.
    """
    if options.rerun:
        require_rerun()
    logs = [read_log(folder) for folder in find_logs(options.run)]
    load = functools.lru_cache(maxsize=1)(open_world)  # all logs of a run share one model
    rows = [replay_log(logged, options, load) for logged in logs]
    worst = float(np.max([0.0, *(row["largest_difference"] or 0.0 for row in rows)]))
    whole = all(row["planned_steps"] == row["steps"] for row in rows)
    judged = [row["safety"] for row in rows if row["safety"]]
    kept = all(s["largest_difference"] <= options.tolerance and not s["differ"] for s in judged)
    summary = {
        "run": options.run,
        "planned_again": options.plan,
        "largest_difference": worst,
        "same": worst <= options.tolerance and whole if options.plan else None,
        "safety_same": kept if judged else None,
        "episodes": rows,
    }
    out, episodes = Path(options.out), [as_episode(logged) for logged in logs]
    page = write_report(out, f"replay of {options.run}", summary, episodes)
    if options.rerun:
        write_recordings(out / "rerun", episodes)
    frames = [frame for episode in episodes for frame in beside_goals(episode)]
    if frames:
        write_bytes(out / "replay.webp", webp_bytes(frames, scale=2))
    return summary, page
