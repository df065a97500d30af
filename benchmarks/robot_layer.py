"""Pass random, extreme and NaN commands through the safety layer alone, on an arm without physics.

Every target that the layer allows is checked with arithmetic that is not the layer's own. Each
finished chunk is a line of a JSONL file, so a killed run resumes.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from json_lines import append_line
from numpy.typing import ArrayLike
from robot_commands import LIMITS, orders
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from robot.arm import Sent
from robot.fake import FakeArm
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, target_outside_m
from worldmodel.atomic_io import read_json_lines

CHUNK = 500
"""Number of commands after which the arm begins at its start pose again."""
MOST = "target_outside_m", "step_m", "turn_rad"
COUNTS = "commands", "sent", "refused", "not_finite"


class SharedSolver(Kinematics):
    """Inverse kinematics that remembers its last solution, which layer and arm both need."""

    last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def solve(self, target: ArrayLike, q: ArrayLike, *, iterations: int = 40) -> np.ndarray:
        """Return the joints [7, rad] that reach a flange pose, near q."""
        pose, start = np.array(target, dtype=float), np.array(q, dtype=float)
        if self.last is not None and all(map(np.array_equal, self.last[:2], (pose, start))):
            return self.last[2]
        joints = super().solve(pose, start, iterations=iterations)
        self.last = pose, start, joints
        return joints


def fresh_layer() -> SafeArm:
    """Return the layer before an arm at its start pose."""
    arm, solver = FakeArm(), SharedSolver("fr3")
    arm.solver = solver
    return SafeArm(arm, LIMITS, solver=solver, execute=True)


def check_layer(count: int, path: Path) -> dict[str, Any]:
    """Return the extremes of the targets that the layer allowed.

    Args:
        count: Number of commands.
        path: JSONL file of finished chunks, extended by this run.
    """
    done = {row["index"] for row in read_rows(path, count)}
    for index in tqdm(range((count + CHUNK - 1) // CHUNK)):
        if index not in done:
            append_line(path, check_chunk(index, min(CHUNK, count - index * CHUNK)))
    rows = read_rows(path, count)
    return {
        **{name: sum(row[name] for row in rows) for name in COUNTS},
        **{name: max(row[name] for row in rows) for name in MOST},
        "max_step_m": LIMITS.max_step_m,
        "max_turn_rad": LIMITS.max_step_rad,
        "seconds_median": statistics.median(s for row in rows for s in row["seconds"]),
    }


def read_rows(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the finished chunks of the first `count` commands."""
    rows: dict[int, dict[str, Any]] = {}
    for row in read_json_lines(path):
        if isinstance(row, dict) and row["commands"] == min(CHUNK, count - row["index"] * CHUNK):
            rows[row["index"]] = row
    return list(rows.values())


def check_chunk(index: int, count: int) -> dict[str, Any]:
    """Pass the commands of a seed through a new layer."""
    found: dict[str, Any] = {"index": index, **dict.fromkeys(MOST, 0.0), **dict.fromkeys(COUNTS, 0)}
    found["seconds"] = []
    safe = fresh_layer()
    for kind, action in orders(np.random.default_rng(index), count):
        before, began = safe.commanded.copy(), time.process_time()
        sent = safe.send_pose(action) if kind == "pose" else safe.send(action)
        found["seconds"].append(round(time.process_time() - began, 6))
        found["commands"] += 1
        found["refused" if sent.refused else "sent"] += 1
        if not sent.refused:
            note(found, before, sent)
    return found


def note(found: dict[str, Any], before: np.ndarray, sent: Sent) -> None:
    """Add the target of a command; `before` is the target that its step counts from."""
    now, then = (Rotation.from_euler("xyz", pose[3:6]) for pose in (before, sent.target))
    outside = float(np.abs(target_outside_m(LIMITS, sent.target)).max())
    for name, value in (
        ("target_outside_m", outside),
        ("step_m", float(np.abs(sent.target[:3] - before[:3]).max())),
        ("turn_rad", float((then * now.inv()).magnitude())),
    ):
        found[name] = max(found[name], value)
    found["not_finite"] += int(not np.isfinite(sent.target).all())
