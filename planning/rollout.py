"""Run an agent in an environment for one episode, and record the outcome."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planning.protocols import Agent, Reading, SubGoal
from planning.skill_record import SkillRecord

Info = Mapping[str, object]
"""`info` of an environment: success, holding, and positions [m] named `..._m`."""
MOVES_OBJECTS = ("pick_place", "push", "push_pose", "two_objects", "over_wall", "sort")
"""Tasks whose error is the largest distance of an object from its target."""
MOVES_ARM = ("reach", "grasp", "reach_with_object")
"""Our other tasks, whose error is a distance of the fingertips."""
NEAR_TARGET_M = 0.04
"""Distance from the target beyond which an object was released in the wrong place [m]."""
FIRST_SEED = 1_000_000
"""First seed of evaluation episodes, far above the seeds used in training."""


def episode_seed(seed: int, index: int) -> int:
    """Return the environment seed of an episode."""
    return FIRST_SEED + 10_000 * seed + index


class GoalEnv(Protocol):
    """A Gymnasium environment that provides goal images."""

    def reset(self, *, seed: int | None = None) -> tuple[Reading, Info]:
        """Start an episode."""

    def step(self, action: NDArray[np.float32]) -> tuple[Reading, float, bool, bool, Info]:
        """Execute one action [7]."""

    def sub_goals(self, variant: str = "default") -> Sequence[SubGoal]:
        """Return the goal images of this episode."""


@dataclass
class Episode:
    """Record of an episode."""

    task: str
    """Name of the task."""
    seed: int
    """Seed of the scene and the search."""
    success: bool = False
    """Whether the task was solved at the end of the episode."""
    ever: bool = False
    """Whether it was solved at any time."""
    error_m: float = float("nan")
    """Final value of the task's error [m]."""
    reason: str = ""
    """Reason of a failure; empty on success."""
    error: str = ""
    """Traceback of the exception that ended the episode; empty for ordinary failures."""
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    """Camera frames, RGB [H, W, 3], if they are kept."""
    goals: list[SubGoal] = field(default_factory=list)
    """Sub-goals in order."""
    actions: list[list[float]] = field(default_factory=list)
    """Executed actions [7]."""
    energies: list[float] = field(default_factory=list)
    """Energy of each frame with respect to the sub-goal at that time."""
    sub_goals: list[int] = field(default_factory=list)
    """Index of the sub-goal of each action."""
    decisions: list[SkillRecord] = field(default_factory=list)
    """Decisions of an agent that plans skills."""
    imagined: list[NDArray[np.uint8] | None] = field(default_factory=list)
    """Picture of the imagined end of each decision, RGB [H, W, 3]; None if nothing was imagined."""
    imagined_text: str = ""
    """What these pictures are: decoded, or nearest recorded frames."""
    camera_34: NDArray[np.float64] | None = None
    """Matrix of the camera [3, 4], from homogeneous points of the base frame [m] to fractions of
    the image's width and height times depth, and depth [m]; None if unknown."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Duration of each action [s] by part: encode, plan, environment."""
    model_calls: list[int] = field(default_factory=list)
    """Number of times that the model ran for each action, one after the other."""
    model_frames: list[int] = field(default_factory=list)
    """Number of frames that the model predicted for each action, samples times steps."""

    def summary(self) -> dict[str, object]:
        """Return the JSON serialisable fields, without images."""
        names = ("task", "seed", "success", "ever", "error_m", "reason", "actions", "energies")
        row = {name: getattr(self, name) for name in names} | {"sub_goals": self.sub_goals}
        row |= {"ended_by_error": True} if self.error else {}
        if self.decisions:
            row["decisions"] = [decision.as_row() for decision in self.decisions]
        return row | {"error_m": self.error_m if np.isfinite(self.error_m) else None}


def _gap_m(info: Info, what: str, where: str, axes: int = 3) -> float:
    """Return the distance [m] between two positions of `info` over its first `axes` axes."""
    a, b = (np.asarray(info[name], dtype=np.float64)[:axes] for name in (what, where))
    return float(np.linalg.norm(a - b))


def final_error_m(task: str, info: Info) -> float:
    """Return the task's error [m]: the distance of fingertips or objects from their goal.

    Of several objects that have to move, the largest distance counts. An environment that is not
    ours reports its own `error_m`.
    """
    own = info.get("error_m")
    if isinstance(own, float | int | np.floating | np.integer):
        return float(own)
    found = np.asarray(info.get("errors_m", ()), dtype=np.float64)
    if task in MOVES_OBJECTS or (task not in MOVES_ARM and found.size):
        return float(found.max()) if found.size else _gap_m(info, "object_m", "target_m", axes=2)
    if task == "grasp":
        return _gap_m(info, "tcp_m", "object_m")
    return _gap_m(info, "tcp_m", "goal_tcp_m")


def failure_reason(task: str, trace: Sequence[Info]) -> str:
    """Describe why an episode failed, from the `info` of all its steps."""
    last = trace[-1]
    if "error_m" in last:
        return f"ended {100 * final_error_m(task, last):.1f} cm from the goal"
    held = [bool(info["holding"]) for info in trace]
    error = final_error_m(task, last)
    if task in ("grasp", "pick_place") and not any(held):
        return "never grasped the object"
    if task in ("grasp", "reach_with_object") and not held[-1]:
        return "lost the object"
    if task == "pick_place":
        if held[-1]:
            return "did not let go"
        dropped = trace[max(i for i, h in enumerate(held) if h)]
        released = {"object_m": dropped["object_m"], "target_m": last["target_m"]}
        if _gap_m(released, "object_m", "target_m", axes=2) > NEAR_TARGET_M:
            return f"let go {error * 100:.1f} cm from the target"
        return f"placed {error * 100:.1f} cm from the target or not at rest"
    if task not in MOVES_ARM and len(np.asarray(last.get("errors_m", ()), dtype=np.float64)):
        yaws = np.degrees(np.asarray(last.get("yaw_errors_rad", ()), dtype=np.float64))
        turned = f" and {yaws.max():.0f} degrees" if task == "push_pose" and yaws.size else ""
        return f"object ended {error * 100:.1f} cm{turned} from the target"
    return f"fingertips ended {error * 100:.1f} cm from the goal"


def run_episode(
    env: GoalEnv,
    agent: Agent,
    *,
    task: str,
    seed: int,
    variant: str = "default",
    keep_frames: bool = True,
    episode: Episode | None = None,
) -> Episode:
    """Run one episode until every sub-goal's step budget is spent.

    Args:
        env: Environment, which is reset with `seed`.
        agent: Chooses the actions.
        task: Name of the environment's task, which selects the error metric.
        seed: Seed of the scene and the search.
        variant: Variant of the sub-goals, see the environment's `sub_goals`.
        keep_frames: Whether to keep camera frames for the report.
        episode: Record that is filled, which holds the steps before an exception; None for a new
            one.
    """
    episode = Episode(task, seed) if episode is None else episode
    observation, info = env.reset(seed=seed)
    episode.goals = list(env.sub_goals(variant))
    agent.begin(episode.goals, seed)
    trace = [info]
    while True:
        if keep_frames:
            episode.frames.append(np.asarray(observation["image"], dtype=np.uint8))
        decision = agent.act(observation)
        if decision is None:
            break
        began = time.perf_counter()
        observation, _, _, _, info = env.step(decision.action)
        if decision.skills is not None:
            episode.decisions.append(replace(decision.skills, step=len(episode.actions)))
        taken = {**decision.seconds, "environment": time.perf_counter() - began}
        for name, seconds in taken.items():
            episode.seconds.setdefault(name, []).append(seconds)
        trace.append(info)
        episode.actions.append([float(x) for x in decision.action])
        episode.energies.append(decision.energy)
        episode.model_calls.append(decision.model_calls)
        episode.model_frames.append(decision.model_frames)
        episode.sub_goals.append(decision.sub_goal)
    episode.success = bool(info["success"])
    episode.ever = any(bool(x["success"]) for x in trace)
    episode.error_m = final_error_m(task, info)
    episode.reason = "" if episode.success else failure_reason(task, trace)
    return episode


def describe_error(error: BaseException) -> str:
    """Return an exception's class and message in one line of at most 300 characters."""
    found = traceback.TracebackException.from_exception(error)
    lines = " ".join("".join(found.format_exception_only()).split())
    return lines if len(lines) <= 300 else f"{lines[:297]}..."


def fail_by(episode: Episode, error: BaseException) -> None:
    """Make an exception the reason of an episode's failure."""
    episode.success, episode.error_m = False, float("nan")
    episode.reason = f"{describe_error(error)} (after {len(episode.actions)} actions)"
    episode.error = "".join(traceback.format_exception(error))


def seconds_per_action(episodes: list[Episode]) -> list[float]:
    """Return the time of encoding and planning [s] for every action of all episodes."""
    out: list[float] = []
    for episode in episodes:
        plan, encode = episode.seconds.get("plan", []), episode.seconds.get("encode", [])
        out += [a + b for a, b in zip(plan, encode, strict=True)]
    return out


def evaluations_per_action(episodes: list[Episode]) -> dict[str, list[float]]:
    """Return the model's runs and predicted frames for every action of all episodes."""
    return {
        "calls": [float(n) for episode in episodes for n in episode.model_calls],
        "frames": [float(n) for episode in episodes for n in episode.model_frames],
    }


def time_shares(episodes: list[Episode]) -> dict[str, float]:
    """Return each part's fraction of the total time: encode, plan, environment."""
    totals: dict[str, float] = {}
    for episode in episodes:
        for name, seconds in episode.seconds.items():
            totals[name] = totals.get(name, 0.0) + sum(seconds)
    whole = sum(totals.values()) or 1.0
    return {name: value / whole for name, value in totals.items()}
