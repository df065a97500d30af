"""Replay a drive's safety log: equal commands must give equal targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planning.drive_log import Logged, read_lines, reading_log, reason_kinds
from planning.workcell_options import NO_KINEMATICS
from robot.kinematics import Kinematics
from robot.safety.layer import SafetyConfig
from robot.safety.limits import Limits

SAFETY = "safety.jsonl"
"""Log of the safety layer, in the folder of a drive's log."""


@dataclass
class SafetyReplay:
    """Outcome of a replayed safety log."""

    commands: int = 0
    """Number of replayed commands."""
    largest_difference: float = 0.0
    """Maximum difference of a target or a sent action [m, rad]."""
    differ: list[str] = field(default_factory=list)
    """Commands whose verdict differs from the log, and steps without a command."""


def _rows(logged: Logged) -> list[dict[str, Any]]:
    """Return the first line of each command in order, ignoring an incomplete last line."""
    rows: dict[int, dict[str, Any]] = {}
    for row in read_lines(logged.folder / SAFETY):
        if "n" in row:
            rows.setdefault(int(row["n"]), row)
    return [rows[n] for n in sorted(rows)]


def _judge(limits: Limits, row: dict[str, Any], found: SafetyReplay) -> None:
    asked, base, q = (np.array(row[name], dtype=np.float64) for name in ("asked", "base", "q"))
    sent = limits.judge(row["kind"], asked, base, row["closed"], q)
    found.commands += 1
    if sent.refused != (row["allowed"] is None):
        found.differ.append(f"command {row['n']}: {sent.reason_text or 'allowed'}")
        return
    if sent.refused:
        return
    gaps = [found.largest_difference, np.abs(sent.target - row["allowed"]).max()]
    if not row["refused"]:
        gaps.append(np.abs(sent.action - row["sent"]).max())
    found.largest_difference = float(np.max(gaps))  # max() would drop a NaN


def _arm_of(options: dict[str, Any]) -> str:
    """Return the arm model of an older log, which holds it among its options."""
    return str(options["arm"]) if options["robot"] == "franka" else "fr3"


def replay_safety_log(logged: Logged) -> SafetyReplay | None:
    """Replay every logged command, and find each step's action among them.

    Returns:
        None if the log lacks the limits or the commands, as older logs do.

    Raises:
        PlanError: An entry of the log or of the safety log is missing or of another kind.
    """
    with reading_log(logged.folder / SAFETY):
        return _replay(logged)


def _replay(logged: Logged) -> SafetyReplay | None:
    header, rows = logged.header, _rows(logged)
    if "limits" not in header or not (rows or not logged.steps):
        return None
    config = SafetyConfig.read(header["limits"])
    kind = header.get("kinematics") or _arm_of(header["options"])
    solver = None if kind == NO_KINEMATICS else Kinematics(kind, config.joint_margin_rad)
    limits, found = Limits(config, solver), SafetyReplay()
    for row in rows:
        if row["base"] is not None:
            _judge(limits, row, found)
    planned = [row for row in logged.steps if "frame" not in reason_kinds(row)]
    for i, step in enumerate(planned):
        if i >= len(rows) or rows[i]["asked"] != step["asked"]:
            found.differ.append(f"step {step['step']}: the safety layer logged another action")
    return found
