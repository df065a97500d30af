"""Control loop of a drive: capture, plan, send and report until the step budgets are spent."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from planning.protocols import Agent, Decision, SubGoal, view_key

Image = NDArray[np.uint8]
Array = NDArray[np.float64]

FATAL = ("latched", "arm", "state", "person")
"""Kinds of refusal that end the episode immediately."""
FUTURE_S = 0.05
"""A frame whose age is below the negative of this was stamped by a wrong clock [s]."""
PARTS_BEFORE_SENDING = ("state", "encode", "plan", "network", "other")
"""Parts of a step during which its frame ages."""
FIXES = {"frame": "; plan with fewer samples= or iterations=, or raise max_plan_s="}
"""Fix to suggest when a kind of refusal repeats."""


class Frame(Protocol):
    """A camera frame."""

    @property
    def image(self) -> Image:
        """RGB [H, W, 3]."""

    @property
    def time_s(self) -> float:
        """Capture time by `time.monotonic()` [s]."""


class Camera(Protocol):
    """A camera that raises if its frames are unusable."""

    def read(self) -> Frame:
        """Return the newest frame."""


class Reading(Protocol):
    """A reading of an arm."""

    @property
    def state(self) -> Array:
        """End-effector pose and closedness [7]: m, rad, 0 open .. 1 closed."""

    @property
    def q(self) -> Array:
        """Joint positions [7, rad]."""

    @property
    def time_s(self) -> float:
        """The arm's own clock [s]."""


class Reason(Protocol):
    """Why a command was changed or refused; `str` gives kind and text in one line."""

    @property
    def kind(self) -> str:
        """Limit or fault that changed or refused the command."""

    @property
    def text(self) -> str:
        """Requested and allowed values."""


class Sent(Protocol):
    """An action after the safety layer."""

    @property
    def action(self) -> Array:
        """Action [7] that was sent."""

    @property
    def target(self) -> Array:
        """Commanded pose and closedness [7]."""

    @property
    def reasons(self) -> Sequence[Reason]:
        """Why it differs from the request; empty if it does not."""

    @property
    def refused(self) -> bool:
        """Whether the whole command was refused and nothing was sent."""


class Arm(Protocol):
    """An arm protected by a safety layer."""

    def state(self) -> Reading:
        """Read the arm."""

    def send(self, action: NDArray[np.float32]) -> Sent:
        """Move by an action [7]; return the action after all limits."""


@dataclass(frozen=True)
class StaleFrame:
    """Reason for not sending an action: its frame became too old during planning."""

    text: str
    kind: Literal["frame"] = "frame"

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class NotSent:
    """An action that was not passed to the safety layer."""

    action: Array
    target: Array
    reasons: tuple[Reason, ...]
    refused: bool = True


@dataclass(frozen=True)
class Step:
    """One iteration of the control loop."""

    index: int
    frame: Frame
    image: Image
    """Image as captured; the agent's policy resizes it."""
    state: Reading
    decision: Decision | None
    """Decision of the agent; None in the last iteration, when all budgets are spent."""
    sent: Sent | None
    """Action after the safety layer; None in the last iteration."""
    seconds: dict[str, float]
    """Duration of each part [s]: camera (of all cameras), state, encode, plan, network (of a plan
    server), other, send."""
    others: Mapping[str, Frame] = field(default_factory=dict)
    """Frames of the model's other cameras by name."""

    @property
    def oldest(self) -> Frame:
        """The frame that was captured first, by whose age an action is judged."""
        return min((self.frame, *self.others.values()), key=lambda frame: frame.time_s)

    @property
    def reading(self) -> dict[str, NDArray[np.generic]]:
        """The observation that the agent sees: images and state."""
        images = {view_key(name): frame.image for name, frame in self.others.items()}
        state = np.asarray(self.state.state).astype(np.float32)
        return {"image": self.image, **images, "state": state}

    @property
    def frame_age_s(self) -> float:
        """Age of the frame at the time of sending [s]."""
        return sum(self.seconds.get(name, 0.0) for name in PARTS_BEFORE_SENDING)


def send_fresh(
    arm: Arm, decision: Decision, frame: Frame, reading: Reading, max_age_s: float
) -> Sent:
    """Send an action unless the frame it was planned from is too old."""
    age = time.monotonic() - frame.time_s
    if -FUTURE_S <= age <= max_age_s:  # NaN and a clock ahead of ours refuse
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
    others: Mapping[str, Camera] | None = None,
) -> str:
    """Drive one episode.

    Args:
        arm: Arm behind the safety layer.
        camera: Checked camera, whose errors propagate and end the episode.
        agent: Chooses the actions.
        goals: Goal images of any size.
        seed: Seed of the search.
        listen: Called with each finished step, and with the frame of one that an error ended.
        max_refused: Number of consecutive refusals that end the episode.
        max_age_s: Maximum age of a frame when its plan is ready [s]; older plans are not sent,
            since the scene may have changed. Use infinity for simulations that wait. Of several
            cameras, the oldest frame counts.
        others: Checked cameras of the model's other views by name; read after the main one.

    Returns:
        Why the episode ended early; empty if the budgets were spent.
    """
    agent.begin(goals, seed)
    refused = 0
    for index in itertools.count():
        began = time.perf_counter()
        frame = camera.read()
        further = {name: other.read() for name, other in (others or {}).items()}
        seen = time.perf_counter()
        reading = arm.state()
        known = time.perf_counter()
        seconds = {"camera": seen - began, "state": known - seen}
        step = Step(index, frame, frame.image, reading, None, None, seconds, further)
        try:
            step = _act(arm, agent, step, max_age_s)
        except BaseException:
            listen(step)  # the episode ends here; its last frame is kept
            raise
        listen(step)
        sent = step.sent
        if sent is None:
            return ""
        dry_run = any(reason.kind == "dry run" for reason in sent.reasons)
        refused = refused + 1 if sent.refused and not dry_run else 0
        why = stop_reason(sent, refused, max_refused)
        if why:
            return why
    raise AssertionError


def _act(arm: Arm, agent: Agent, step: Step, max_age_s: float) -> Step:
    """Plan and send an action; return the step with both, or unchanged if the budgets are spent."""
    known = time.perf_counter()
    reading = step.state
    decision = agent.act(step.reading)
    planned = time.perf_counter()
    if decision is None:
        return step
    sent = send_fresh(arm, decision, step.oldest, reading, max_age_s)
    seconds = step.seconds | decision.seconds
    seconds["other"] = planned - known - sum(decision.seconds.values())
    seconds["send"] = time.perf_counter() - planned
    return replace(step, decision=decision, sent=sent, seconds=seconds)


def stop_reason(sent: Sent, refused: int, max_refused: int) -> str:
    """Return why a refusal ends the episode; empty if it does not.

    Args:
        sent: Latest action after the safety layer.
        refused: Number of consecutive refusals, including this one.
        max_refused: Number of consecutive refusals that end the episode.
    """
    if not refused:
        return ""
    fatal = [reason for reason in sent.reasons if reason.kind in FATAL]
    if fatal:
        return str(fatal[0])
    if not refused < max_refused:
        fix = FIXES.get(sent.reasons[-1].kind, "")
        text = "; ".join(map(str, sent.reasons))
        return f"{refused} actions refused in a row, last: {text}{fix}"
    return ""
