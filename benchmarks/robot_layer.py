"""Pass random, extreme and NaN commands through the safety layer alone, on an arm without physics.

Every target that the layer allows is checked with arithmetic that is not the layer's own.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from robot_commands import LIMITS, RESET_EVERY, orders
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from robot.arm import Sent
from robot.fake import FakeArm
from robot.kinematics import Kinematics
from robot.safety.layer import SafeArm, target_outside_m

CHUNK = 100


def check_layer(count: int) -> dict[str, Any]:
    """Return the extremes of the targets that the layer allowed.

    Args:
        count: number of commands.
    """
    found: dict[str, Any] = dict.fromkeys(("target_outside_m", "step_m", "turn_rad"), 0.0) | {
        "commands": 0,
        "sent": 0,
        "refused": 0,
        "not_finite": 0,
    }
    seconds: list[float] = []
    safe = SafeArm(FakeArm(), LIMITS, solver=Kinematics("fr3"), execute=True)
    for index in tqdm(range((count + CHUNK - 1) // CHUNK)):
        if index % RESET_EVERY == 0:
            safe = SafeArm(FakeArm(), LIMITS, solver=Kinematics("fr3"), execute=True)
        for kind, action in orders(
            np.random.default_rng(index), min(CHUNK, count - found["commands"])
        ):
            before, began = safe.commanded.copy(), time.perf_counter()
            sent = safe.send_pose(action) if kind == "pose" else safe.send(action)
            seconds.append(time.perf_counter() - began)
            found["commands"] += 1
            found["refused" if sent.refused else "sent"] += 1
            if not sent.refused:
                note(found, before, sent)
    limits = {"max_step_m": LIMITS.max_step_m, "max_turn_rad": LIMITS.max_step_rad}
    return found | limits | {"seconds_median": statistics.median(seconds)}


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
