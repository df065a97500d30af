"""`worldmodel replay`: show a drive's log; plan and judge again, to the same actions."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from planning.apps.safety_replay import replay_safety_log
from planning.apps.workcell import _text
from planning.cli.drive import Options as DriveOptions
from planning.cli.drive import make_agent
from planning.drive_log import Logged, read_log
from planning.errors import PlanError
from planning.report.page import beside_goals, gif_bytes, write_report
from planning.rollout import Episode


@dataclass(kw_only=True)
class Options:
    """Options of `worldmodel replay`."""

    run: str = _text("", "folder that `worldmodel drive` wrote, or one of its logs/*")
    plan: bool = _text(True, "plan again from the recorded frames and states")
    model: str = _text("", "another model than the drive's")
    tolerance: float = _text(1e-6, "largest difference of an action that counts as the same")
    out: str = _text("runs/replay", "folder of summary.json, report.html and replay.gif")


def find_logs(where: str) -> list[Path]:
    """Folders of logs of a run.

    Raises:
        PlanError: there is none.
    """
    root = Path(where)
    if where and (root / "log.jsonl").is_file():
        return [root]
    found = sorted(p.parent for p in (root / "logs").glob("*/log.jsonl")) if where else []
    if not found:
        raise PlanError(f"No logs in {where!r}: say run=DIR, the out= of a `worldmodel drive`")
    return found


def drive_options(header: dict[str, Any], model: str) -> DriveOptions:
    """The options that a log was made with."""
    known = {f.name for f in dataclasses.fields(DriveOptions)}
    said = {k: v for k, v in header["options"].items() if k in known}
    options = DriveOptions(**said)
    return dataclasses.replace(options, model=model) if model else options


def replan(logged: Logged, model: str = "") -> list[float]:
    """Plan again; the largest difference from the logged action, per step.

    Raises:
        PlanError: the agent ended before the log did.
    """
    options, box = drive_options(logged.header, model), logged.header["box_m"]
    agent, _ = make_agent(options, None if box is None else (box[0], box[1]))
    agent.begin(logged.goals, logged.header["seed"])
    differences = []
    threads = torch.get_num_threads()
    torch.set_num_threads(int(logged.header["threads"]))  # sums depend on how they are split
    try:
        for row in tqdm(logged.steps, desc="planning again", unit="step"):
            state = np.array(row["state"], dtype=np.float64).astype(np.float32)
            decision = agent.act({"image": logged.frame(row["frame"]), "state": state})
            if decision is None:
                raise PlanError(f"At step {row['step']} the budgets are spent, in the log not yet")
            asked = np.array(row["asked"])
            differences.append(float(np.abs(decision.action - asked).max()))
    finally:
        torch.set_num_threads(threads)
    return differences


def as_episode(logged: Logged) -> Episode:
    """The log as the report shows it."""
    error = logged.end.get("error_m")
    ended = logged.end.get("ended", "cut off")
    return Episode(
        logged.header["options"]["task"] or "goals",
        logged.header["seed"],
        success=bool(logged.end.get("success")),
        error_m=float("nan") if error is None else error,
        reason=ended,
        frames=[logged.frame(r["frame"]) for r in logged.steps],
        goals=logged.goals,
        actions=[r["asked"] for r in logged.steps],
        energies=[r["energy"] for r in logged.steps],
        sub_goals=[r["sub_goal"] for r in logged.steps],
    )


def again(logged: Logged, options: Options) -> dict[str, Any]:
    """Plan a log's steps again and judge its commands again."""
    differences = replan(logged, options.model) if options.plan else []
    safety = replay_safety_log(logged)
    return {
        "log": str(logged.folder),
        "steps": len(logged.steps),
        "ended": logged.end.get("ended", "cut off"),
        "largest_difference": max(differences, default=None),
        "safety": None if safety is None else dataclasses.asdict(safety),
    }


def _say(summary: dict[str, Any], options: Options) -> None:
    print(json.dumps(summary, indent=2))
    if options.plan:
        word = "replays" if summary["same"] else "does NOT replay"
        print(f"{word} to the same actions: largest difference {summary['largest_difference']:.3g}")
    judged = [r["safety"] for r in summary["episodes"] if r["safety"]]
    if judged:
        word = "judges" if summary["safety_same"] else "does NOT judge"
        count = sum(r["commands"] for r in judged)
        print(f"the safety layer {word} {count} commands as it did then")


def run(options: Options) -> int:
    """Show, plan and judge again; exit status 1 when an action or a target differs."""
    logs = [read_log(folder) for folder in find_logs(options.run)]
    episodes = [as_episode(logged) for logged in logs]
    rows = [again(logged, options) for logged in logs]
    worst = max((r["largest_difference"] or 0.0 for r in rows), default=0.0)
    same = worst <= options.tolerance
    judged = [r["safety"] for r in rows if r["safety"]]
    kept = all(r["largest_difference"] <= options.tolerance and not r["differ"] for r in judged)
    summary = {
        "run": options.run,
        "planned_again": options.plan,
        "largest_difference": worst,
        "same": same if options.plan else None,
        "safety_same": kept if judged else None,
        "episodes": rows,
    }
    out = Path(options.out)
    page = write_report(out, f"replay of {options.run}", summary, episodes)
    frames = [frame for episode in episodes for frame in beside_goals(episode)]
    if frames:
        (out / "replay.gif").write_bytes(gif_bytes(frames))
    _say(summary, options)
    print(page)
    return 0 if same and kept else 1
