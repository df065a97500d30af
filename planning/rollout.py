"""Agent and environment together: one episode, its log, and why it failed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from planning.protocols import Agent, SubGoal


class GoalEnv(Protocol):
    """A Gymnasium environment that can make goal pictures."""

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        ...

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carry out one action."""
        ...

    def sub_goals(self, variant: str = "default") -> list[Any]:
        """Goal pictures of this episode."""
        ...


@dataclass
class Episode:
    """What happened."""

    task: str
    seed: int
    success: bool = False
    """At the end."""
    ever: bool = False
    error_m: float = float("nan")
    reason: str = ""
    """Why it failed; empty on success."""
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    goals: list[SubGoal] = field(default_factory=list)
    actions: list[list[float]] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    sub_goals: list[int] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The JSON-able part without pictures."""
        names = ("task", "seed", "success", "ever", "error_m", "reason", "actions", "energies")
        row = {name: getattr(self, name) for name in names} | {"sub_goals": self.sub_goals}
        return row | {"error_m": self.error_m if np.isfinite(self.error_m) else None}


def final_error_m(task: str, info: dict[str, Any]) -> float:
    """Distance that the task is about [m]: fingertips or object to where they should be."""
    if task in ("pick_place", "push"):
        return float(np.linalg.norm(info["object_m"][:2] - info["target_m"][:2]))
    if task == "grasp":
        return float(np.linalg.norm(info["tcp_m"] - info["object_m"]))
    return float(np.linalg.norm(info["tcp_m"] - info["goal_tcp_m"]))


def failure_reason(task: str, trace: list[dict[str, Any]]) -> str:
    """Say in words what went wrong, from the trace of `info`."""
    last = trace[-1]
    held = [bool(info["holding"]) for info in trace]
    error = final_error_m(task, last)
    if task in ("grasp", "pick_place") and not any(held):
        return "never grasped the object"
    if task in ("grasp", "reach_with_object") and not held[-1]:
        return "lost the object"
    if task == "pick_place":
        if held[-1]:
            return "did not let go"
        dropped = max(i for i, h in enumerate(held) if h)
        if np.linalg.norm(trace[dropped]["object_m"][:2] - last["target_m"][:2]) > 0.04:
            return f"let go {error * 100:.1f} cm from the target"
        return f"placed {error * 100:.1f} cm from the target or not at rest"
    if task == "push":
        return f"object ended {error * 100:.1f} cm from the target"
    return f"fingertips ended {error * 100:.1f} cm from the goal"


def run_episode(
    env: GoalEnv,
    agent: Agent,
    *,
    task: str,
    seed: int,
    variant: str = "default",
    keep_frames: bool = True,
) -> Episode:
    """Run one episode until every sub-goal's budget is spent."""
    observation, info = env.reset(seed=seed)
    episode = Episode(task, seed, goals=env.sub_goals(variant))
    agent.begin(episode.goals, seed)
    trace = [info]
    while True:
        if keep_frames:
            episode.frames.append(observation["image"])
        decision = agent.act(observation)
        if decision is None:
            break
        began = time.perf_counter()
        observation, _, _, _, info = env.step(decision.action)
        taken = {**decision.seconds, "environment": time.perf_counter() - began}
        for name, seconds in taken.items():
            episode.seconds.setdefault(name, []).append(seconds)
        trace.append(info)
        episode.actions.append([float(x) for x in decision.action])
        episode.energies.append(decision.energy)
        episode.sub_goals.append(decision.sub_goal)
    episode.success = bool(info["success"])
    episode.ever = any(bool(x["success"]) for x in trace)
    episode.error_m = final_error_m(task, info)
    episode.reason = "" if episode.success else failure_reason(task, trace)
    return episode


def seconds_per_action(episodes: list[Episode]) -> list[float]:
    """Time of encoding and planning for every action of all episodes [s]."""
    out: list[float] = []
    for episode in episodes:
        plan, encode = episode.seconds.get("plan", []), episode.seconds.get("encode", [])
        out += [a + b for a, b in zip(plan, encode, strict=True)]
    return out


def time_shares(episodes: list[Episode]) -> dict[str, float]:
    """Share of encoding, planning and the environment (physics + rendering) in the whole."""
    totals: dict[str, float] = {}
    for episode in episodes:
        for name, seconds in episode.seconds.items():
            totals[name] = totals.get(name, 0.0) + sum(seconds)
    whole = sum(totals.values()) or 1.0
    return {name: value / whole for name, value in totals.items()}
