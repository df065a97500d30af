"""The loop that drives an arm: look, plan, send, tell; until the budgets are spent."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from planning.protocols import Agent, Decision, SubGoal

Image = NDArray[np.uint8]

FATAL = ("latched", "arm", "state", "person")
"""Kinds of refusal after which an episode does not go on."""


MENDS = {"frame": "; plan with fewer samples= or iterations=, or raise max_plan_s="}
"""What helps against a kind of refusal that comes again and again."""


@dataclass(frozen=True)
class NotSent:
    """An action that did not even reach the safety layer."""

    action: NDArray[np.float64]
    target: NDArray[np.float64]
    reasons: tuple[str, ...]
    refused: bool = True


class Seen(Protocol):
    """A frame of a camera."""

    @property
    def image(self) -> Image:
        """RGB [H, W, 3]."""
        ...

    @property
    def time_s(self) -> float:
        """`time.monotonic()` of its capture."""
        ...


class Camera(Protocol):
    """A camera that raises when its frames are unfit for planning."""

    def read(self) -> Any:
        """Newest frame (`Seen`)."""
        ...


class Arm(Protocol):
    """An arm behind a safety layer."""

    def state(self) -> Any:
        """Reading with `state` [7], `q` [7] and `time_s`."""
        ...

    def send(self, action: Any) -> Any:
        """Move by [7]; says `action`, `target`, `reasons` and `refused`."""
        ...


@dataclass(frozen=True)
class Step:
    """One turn of the loop."""

    index: int
    frame: Seen
    image: Image
    """What the model saw."""
    state: Any
    decision: Decision | None
    """None in the last look, when nothing is left to do."""
    sent: Any
    seconds: dict[str, float]
    """By part: camera, state, encode, plan, send."""

    @property
    def frame_age_s(self) -> float:
        """Age of the frame when the action was sent [s]."""
        return sum(self.seconds.get(name, 0.0) for name in ("state", "encode", "plan", "other"))


def send_fresh(arm: Arm, decision: Decision, frame: Seen, reading: Any, max_age_s: float) -> Any:
    """Send an action unless the frame that it was planned from has grown too old meanwhile."""
    age = time.monotonic() - frame.time_s
    if age <= max_age_s:
        return arm.send(decision.action)
    text = f"frame: {age:.2f} s old when the plan was ready, at most {max_age_s} s"
    return NotSent(np.zeros(7), np.asarray(reading.state, dtype=np.float64), (text,))


def drive_episode(
    arm: Arm,
    camera: Camera,
    agent: Agent,
    goals: list[SubGoal],
    *,
    seed: int,
    prepare: Callable[[Image], Image],
    listen: Callable[[Step], None],
    max_refused: int = 3,
    max_age_s: float = math.inf,
) -> str:
    """Drive one episode.

    Args:
        arm: behind the safety layer.
        camera: checked; its errors end the episode by going up.
        agent: plans.
        goals: pictures at the model's size.
        seed: of the search.
        prepare: camera frame -> the model's picture.
        listen: hears each step as soon as it is done.
        max_refused: so many refusals in a row end the episode.
        max_age_s: of the frame when its plan is ready; an older plan is not sent, since the scene
            may have changed. Infinite for simulations that wait.

    Returns:
        Why it ended early; empty when the budgets are spent.
    """
    agent.begin(goals, seed)
    refused = 0
    for index in itertools.count():
        began = time.perf_counter()
        frame = camera.read()
        seen = time.perf_counter()
        reading = arm.state()
        image = prepare(frame.image)
        known = time.perf_counter()
        decision = agent.act({"image": image, "state": reading.state.astype(np.float32)})
        planned = time.perf_counter()
        seconds = {"camera": seen - began, "state": known - seen}
        if decision is None:
            listen(Step(index, frame, image, reading, None, None, seconds))
            return ""
        sent = send_fresh(arm, decision, frame, reading, max_age_s)
        seconds |= decision.seconds
        seconds["other"] = planned - known - sum(decision.seconds.values())
        seconds["send"] = time.perf_counter() - planned
        listen(Step(index, frame, image, reading, decision, sent, seconds))
        refused = refused + 1 if sent.refused and "dry run" not in sent.reasons else 0
        why = stop_reason(sent, refused, max_refused)
        if why:
            return why
    raise AssertionError


def stop_reason(sent: Any, refused: int, max_refused: int) -> str:
    """Why a refusal ends the episode; empty if it does not."""
    if not refused:
        return ""
    grave = [r for r in sent.reasons if r.split(":")[0] in FATAL]
    if grave:
        return str(grave[0])
    if refused >= max_refused:
        mend = MENDS.get(sent.reasons[-1].split(":")[0], "")
        return f"{refused} actions refused in a row, last: {'; '.join(sent.reasons)}{mend}"
    return ""
