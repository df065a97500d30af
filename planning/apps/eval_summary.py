"""Figures of an evaluation: success rates, times, and what was imagined."""

from __future__ import annotations

import contextlib
import platform
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from envs.tasks import TASKS
from planning.apps.failures import failed
from planning.arm_options import DriveOptions
from planning.metrics import median_p95, wilson
from planning.options import EvalOptions, SceneOptions
from planning.rollout import Episode, evaluations_per_action, seconds_per_action, time_shares

SEARCHED = "plan", "no better plan"
"""Reasons of decisions that a search made; others need none."""
COUNTS = "episodes", "successes", "success_rate", "ci95", "ended_by_exceptions"


def rates_of(episodes: list[Episode]) -> dict[str, Any]:
    """Return successes, rate, interval and error of one agent's episodes."""
    successes = sum(e.success for e in episodes)
    return {
        "successes": successes,
        "episodes": len(episodes),
        "success_rate": successes / max(1, len(episodes)),
        "ci95": wilson(successes, len(episodes)),
        "ended_by_exceptions": len(failed(episodes)),
        "final_error_m": median_p95([e.error_m for e in episodes if np.isfinite(e.error_m)]),
    }


def versions(*names: str) -> dict[str, str]:
    """Return the versions of distributions; torch is missing where a server plans."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def summarise(
    episodes: list[Episode],
    baselines: dict[str, list[Episode]],
    options: EvalOptions | DriveOptions,
    scene: SceneOptions,
) -> dict[str, Any]:
    """Return the figures of `summary.json`."""
    rates = rates_of(episodes)
    own = options if isinstance(options, EvalOptions) else options.workcell
    environment = own.environment
    # no user's task is loaded here: a merge reads its name from a file
    known = TASKS[scene.task or "reach"].objects if scene.task in ("", *TASKS) else ()
    known = () if environment else known
    return {
        "task": environment or scene.task or "goals",
        **{name: rates[name] for name in COUNTS},
        "seconds_per_action": median_p95(seconds_per_action(episodes)),
        **_evaluations(episodes),
        "final_error_m": rates["final_error_m"],
        "baselines": {name: rates_of(rows) for name, rows in baselines.items()},
        "model": options.model,
        "seed": options.seed,
        "versions": {
            "python": platform.python_version(),
            **versions("torch", "mujoco", "gymnasium", "numpy"),
        },
        "split": scene.split,
        "factor": scene.factor,
        "embodiment": scene.embodiment,
        "objects": list(scene.objects or known),
        "sub_goals": options.sub_goals,
        "planner": options.planner.as_dict(),
        "time_shares": time_shares(episodes),
        "failures": dict(Counter(_reason(e) for e in episodes if e.reason)),
    }


def _reason(episode: Episode) -> str:
    """Return the kind of a failure: its description without distances."""
    if episode.error:
        return "exception"
    return re.sub(r"[0-9.]+ cm( and [0-9]+ degrees)? from", "away from", episode.reason)


def _evaluations(episodes: list[Episode]) -> dict[str, Any]:
    """Return how often planners of actions asked the model; nothing for skills, which do not count.

    Their cost is the time of their decisions.
    """
    found = evaluations_per_action(episodes)
    if not any(found["calls"]):
        return {}
    return {"evaluations_per_action": {name: median_p95(n) for name, n in found.items()}}


def decision_figures(episodes: list[Episode]) -> dict[str, Any]:
    """Return the time of decisions about skills, its shares, and what was decided."""
    decisions = [decision for episode in episodes for decision in episode.decisions]
    planned = [decision for decision in decisions if decision.why in SEARCHED]
    totals: Counter[str] = Counter()
    for decision in planned:
        totals.update(decision.seconds)
    whole = sum(totals.values()) or 1.0
    return {
        "seconds_per_decision": median_p95([sum(d.seconds.values()) for d in planned]),
        "decision_shares": {name: value / whole for name, value in totals.items()},
        "decisions": dict(
            Counter("+".join(d.chosen.skills) if d.chosen else d.why for d in decisions)
        ),
    }


def write_imagined(out: Path, episodes: list[Episode]) -> None:
    """Write the imagined tokens of each episode to `imagined/SEED.npz`.

    `step_D` holds the step of each decision that was imagined, and `z_DNC` the tokens at the end
    of the chosen skills in float16.
    """
    folder = out / "imagined"
    for episode in episodes:
        shown = [d for d in episode.decisions if d.imagined_ND is not None]
        if not shown:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        tokens = np.stack([d.imagined_ND for d in shown if d.imagined_ND is not None])
        steps = np.array([d.step for d in shown])
        np.savez_compressed(folder / f"{episode.seed}.npz", step_D=steps, z_DNC=tokens)
