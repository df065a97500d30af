"""Go through a drive's log of the safety layer again: the same commands, the same targets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planning.drive_log import Logged
from robot.kinematics import Kinematics
from robot.safety.layer import SafetyConfig
from robot.safety.limits import Limits


@dataclass
class SafetyReplay:
    """What came of it."""

    commands: int = 0
    """Commands that the limits were asked about again."""
    largest_difference: float = 0.0
    """Of a target [m, rad] or of an action sent."""
    differ: list[str] = field(default_factory=list)
    """Commands judged otherwise than then, and steps without a command."""


def _rows(logged: Logged) -> list[dict[str, Any]]:
    """First line of each command, in order; a torn last line is left out."""
    path = logged.folder / "safety.jsonl"
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if "n" in row:
            rows.setdefault(row["n"], row)
    return [rows[n] for n in sorted(rows)]


def _judge(limits: Limits, row: dict[str, Any], found: SafetyReplay) -> None:
    asked, base, q = (np.array(row[name], dtype=np.float64) for name in ("asked", "base", "q"))
    sent = limits.judge(row["kind"], asked, base, row["closed"], q)
    found.commands += 1
    if sent.refused != (row["allowed"] is None):
        found.differ.append(f"command {row['n']}: {'; '.join(sent.reasons) or 'allowed'}")
        return
    if sent.refused:
        return
    gaps = [np.abs(sent.target - row["allowed"]).max()]
    if not row["refused"]:
        gaps.append(np.abs(sent.action - row["sent"]).max())
    found.largest_difference = max(found.largest_difference, *(float(gap) for gap in gaps))


def replay_safety_log(logged: Logged) -> SafetyReplay | None:
    """Judge every logged command again, and look for each step's action among them.

    Returns:
        None where the log lacks what it takes (an older one).
    """
    header, rows = logged.header, _rows(logged)
    if "limits" not in header or not (rows or not logged.steps):
        return None
    options = header["options"]
    config = SafetyConfig.read(header["limits"])
    kind = options["arm"] if options["robot"] == "franka" else "fr3"
    limits, found = Limits(config, Kinematics(kind, config.joint_margin_rad)), SafetyReplay()
    for row in rows:
        if row["base"] is not None:
            _judge(limits, row, found)
    planned = [r for r in logged.steps if not any(x.startswith("frame:") for x in r["reasons"])]
    for i, step in enumerate(planned):
        if i >= len(rows) or rows[i]["asked"] != step["asked"]:
            found.differ.append(f"step {step['step']}: not what the safety layer was asked")
    return found
