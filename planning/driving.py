"""The loop that drives an arm: capture, plan, send and report, until the step budgets are spent."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from planning.protocols import Agent, Decision, SubGoal

Image = NDArray[np.uint8]
Array = NDArray[np.float64]

FATAL = ("latched", "arm", "state", "person")
"""Kinds of refusal that end the episode."""
FIXES = {"frame": "; plan with fewer samples= or iterations=, or raise max_plan_s="}
"""What to change when a kind of refusal repeats."""


class Frame(Protocol):
    """A frame of a camera."""

    @property
    def image(self) -> Image:
        """RGB [H, W, 3]."""
        ...

    @property
    def time_s(self) -> float:
        """`time.monotonic()` of its capture [s]."""
        ...


class Camera(Protocol):
    """A camera that raises when its frames are unfit for planning."""

    def read(self) -> Frame:
        """Return the newest frame."""
        ...


class Reading(Protocol):
    """A reading of an arm."""

    @property
    def state(self) -> Array:
        """End-effector pose and closedness [7]: m, rad, 0 open .. 1 closed."""
        ...

    @property
    def q(self) -> Array:
        """Joint positions [7, rad]."""
        ...

    @property
    def time_s(self) -> float:
        """The arm's own clock [s]."""
        ...


class Reason(Protocol):
    """Why a command was changed or refused; `str` gives kind and text in one line."""

    @property
    def kind(self) -> str:
        """What the command was changed or refused for."""
        ...

    @property
    def text(self) -> str:
        """What was asked and what is allowed."""
        ...


class Sent(Protocol):
    """What a safety layer made of an action."""

    @property
    def action(self) -> Array:
        """Action [7] as sent."""
        ...

    @property
    def target(self) -> Array:
        """Commanded pose and closedness [7]."""
        ...

    @property
    def reasons(self) -> Sequence[Reason]:
        """Why it differs from what was asked; empty if it does not."""
        ...

    @property
    def refused(self) -> bool:
        """Whether nothing was sent at all."""
        ...


class Arm(Protocol):
    """An arm behind a safety layer."""

    def state(self) -> Reading:
        """Read the arm."""
        ...

    def send(self, action: NDArray[np.float32]) -> Sent:
        """Move by an action [7]; return what was made of it."""
        ...


@dataclass(frozen=True)
class StaleFrame:
    """The frame that an action was planned from grew too old."""

    text: str
    kind: Literal["frame"] = "frame"

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class NotSent:
    """An action that did not reach the safety layer."""

    action: Array
    target: Array
    reasons: tuple[Reason, ...]
    refused: bool = True


@dataclass(frozen=True)
class Step:
    """One turn of the loop."""

    index: int
    frame: Frame
    image: Image
    """The frame's image as the camera gave it; the agent's policy resizes it."""
    state: Reading
    decision: Decision | None
    """None in the last turn, when all budgets are spent."""
    sent: Sent | None
    """None in the last turn."""
    seconds: dict[str, float]
    """Duration of each part: camera, state, encode, plan, other, send."""

    @property
    def frame_age_s(self) -> float:
        """Age of the frame when the action was sent [s]."""
        return sum(self.seconds.get(name, 0.0) for name in ("state", "encode", "plan", "other"))


def send_fresh(
    arm: Arm, decision: Decision, frame: Frame, reading: Reading, max_age_s: float
) -> Sent:
    """Send an action unless the frame that it was planned from has grown too old."""
    age = time.monotonic() - frame.time_s
    if age <= max_age_s:
        return arm.send(decision.action)
    text = f"{age:.2f} s old when the plan was ready, at most {max_age_s} s"
    target = np.asarray(reading.state, dtype=np.float64)
    return NotSent(np.zeros(7), target, (StaleFrame(text),))


def drive_episode(
    arm: Arm,
    camera: Camera,
    agent: Agent,
    goals: list[SubGoal],
    *,
    seed: int,
    listen: Callable[[Step], None],
    max_refused: int = 3,
    max_age_s: float = math.inf,
) -> str:
    """Drive one episode.

    Args:
        arm: Arm behind the safety layer.
        camera: Checked camera; its errors end the episode by propagating.
        agent: Chooses the actions.
        goals: Goal images of any size.
        seed: Seed of the search.
        listen: Called with each step as soon as it is done.
        max_refused: Number of consecutive refusals that ends the episode.
        max_age_s: Largest age of a frame when its plan is ready [s]; an older plan is not sent,
            since the scene may have changed. Infinite for simulations that wait.

    Returns:
        Why the episode ended early; empty when the budgets are spent.
    """
    agent.begin(goals, seed)
    refused = 0
    for index in itertools.count():
        began = time.perf_counter()
        frame = camera.read()
        seen = time.perf_counter()
        reading = arm.state()
        known = time.perf_counter()
        decision = agent.act({"image": frame.image, "state": reading.state.astype(np.float32)})
        planned = time.perf_counter()
        seconds = {"camera": seen - began, "state": known - seen}
        if decision is None:
            listen(Step(index, frame, frame.image, reading, None, None, seconds))
            return ""
        sent = send_fresh(arm, decision, frame, reading, max_age_s)
        seconds |= decision.seconds
        seconds["other"] = planned - known - sum(decision.seconds.values())
        seconds["send"] = time.perf_counter() - planned
        listen(Step(index, frame, frame.image, reading, decision, sent, seconds))
        dry_run = any(reason.kind == "dry run" for reason in sent.reasons)
        refused = refused + 1 if sent.refused and not dry_run else 0
        why = stop_reason(sent, refused, max_refused)
        if why:
            return why
    raise AssertionError


def stop_reason(sent: Sent, refused: int, max_refused: int) -> str:
    """Return why a refusal ends the episode; empty if it does not.

    Args:
        sent: What was made of the newest action.
        refused: Consecutive refusals, this one included.
        max_refused: Number of them that ends the episode.
    """
    if not refused:
        return ""
    fatal = [reason for reason in sent.reasons if reason.kind in FATAL]
    if fatal:
        return str(fatal[0])
    if refused >= max_refused:
        fix = FIXES.get(sent.reasons[-1].kind, "")
        text = "; ".join(map(str, sent.reasons))
        return f"{refused} actions refused in a row, last: {text}{fix}"
    return ""
