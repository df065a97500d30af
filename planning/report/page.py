"""Self-contained web page with the start, goals, motion, decisions and outcome of every episode."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from planning.atomic_write import json_text, write_text
from planning.report.plots import short
from planning.report.views import episode_view
from planning.rollout import Episode

FOLDED = ("planner", "versions", "time_shares", "decision_shares")
"""Entries of the summary that are folded away."""
RATES = {"successes", "episodes", "success_rate", "ci95", "final_error_m", "baselines", "tasks"}
"""Entries of the summary that the table of outcomes shows."""


@functools.cache
def templates() -> jinja2.Environment:
    """Return the templates of this package; every value is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("planning.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def label(key: object) -> str:
    """Return a key of the summary as words, with its unit in brackets."""
    words = str(key).replace("_", " ")
    return f"{words[:-2]} [{words[-1]}]" if words.endswith((" m", " s")) else words


def cell(value: object) -> str:
    """Return a value as text: short numbers, lists with commas, a line for each nested row."""
    if isinstance(value, Mapping):
        nested = all(isinstance(v, Mapping) for v in value.values())
        colon = ":" if nested else ""
        lines = [f"{label(k)}{colon} {cell(v)}" for k, v in value.items()]
        return ("\n" if nested else ", ").join(lines) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(cell, value))}]" if value else "none"
    if value is None or value == "":
        return "none"
    return short(value) if isinstance(value, float) else str(value)


def outcomes(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return rows of task, agent, successes, 95 % interval, and final error [cm].

    The list is empty if the summary holds no rates, as that of a drive that nobody judged.
    """
    if not RATES - {"tasks"} <= summary.keys() or summary["ci95"] is None:
        return []
    whole = {"planner": summary, **summary["baselines"]}
    groups = {**summary["tasks"], "all": whole} if "tasks" in summary else {summary["task"]: whole}
    return [
        (label(task), label(agent), *_outcome(rates))
        for task, agents in groups.items()
        for agent, rates in agents.items()
    ]


def _outcome(rates: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = (round(100 * bound) for bound in rates["ci95"])
    error_m = rates["final_error_m"]
    shown = [
        "unknown" if error_m[name] is None else f"{100 * error_m[name]:.1f}"
        for name in ("median", "p95")
    ]
    return f"{rates['successes']} of {rates['episodes']}", f"{low} to {high} %", " / ".join(shown)


def write_report(
    out: Path,
    title: str,
    summary: Mapping[str, object],
    episodes: Sequence[Episode],
    others: Mapping[str, Sequence[Episode]] | None = None,
) -> Path:
    """Write `report.html`, `summary.json` and `episodes.jsonl` into a folder.

    Args:
        out: Output folder, created if missing.
        title: Heading of the page.
        summary: JSON serialisable values, shown as a table.
        episodes: Episodes, with their frames; failures are shown first.
        others: Episodes of baselines by name, whose outcome is shown beside that of the episode
            with the same task and seed.

    Returns:
        Path of the self-contained page.
    """
    write_text(out / "summary.json", json_text(summary, indent=2))
    rows = "".join(json_text(e.summary()) + "\n" for e in episodes)
    write_text(out / "episodes.jsonl", rows)
    same = {n: {(e.task, e.seed): e for e in found} for n, found in (others or {}).items()}
    views = [
        episode_view(e, {n: f[e.task, e.seed] for n, f in same.items() if (e.task, e.seed) in f})
        for e in sorted(episodes, key=lambda e: e.success)
    ]
    rates = outcomes(summary)
    hidden = RATES if rates else set()
    table = [(label(k), cell(v), k in FOLDED) for k, v in summary.items() if k not in hidden]
    page = out / "report.html"
    template = templates().get_template("report.html.j2")
    write_text(page, template.render(title=title, rates=rates, table=table, episodes=views))
    return page
