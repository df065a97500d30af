"""Pass random, extreme and NaN commands through the safety layer alone, on an arm without physics.

Every target that the layer allows is checked with arithmetic that is not the layer's own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from robot_commands import LIMITS, RESET_EVERY, orders
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from robot.arm import Sent
from robot.fake import FakeArm
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, target_outside_m

CHUNK = 100


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


def check_layer(count: int, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the extremes of the targets that the layer allowed.

    Args:
        count: number of commands.
        keep: called with the results so far after every hundred commands.
    """
    found: dict[str, Any] = dict.fromkeys(("target_outside_m", "step_m", "turn_rad"), 0.0) | {
        "commands": 0,
        "sent": 0,
        "refused": 0,
        "not_finite": 0,
        "max_step_m": LIMITS.max_step_m,
        "max_turn_rad": LIMITS.max_step_rad,
    }
    seconds: list[float] = []
    safe = fresh_layer()
    for index in tqdm(range((count + CHUNK - 1) // CHUNK)):
        if index % RESET_EVERY == 0:
            safe = fresh_layer()
        size = min(CHUNK, count - found["commands"])
        for kind, action in orders(np.random.default_rng(index), size):
            before, began = safe.commanded.copy(), time.process_time()
            sent = safe.send_pose(action) if kind == "pose" else safe.send(action)
            seconds.append(time.process_time() - began)
            found["commands"] += 1
            found["refused" if sent.refused else "sent"] += 1
            if not sent.refused:
                note(found, before, sent)
        keep(found | {"seconds_median": statistics.median(seconds)})
    return found | {"seconds_median": statistics.median(seconds)}


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
    found["not_finite"] += not np.isfinite(sent.target).all()
