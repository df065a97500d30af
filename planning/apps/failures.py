"""Episodes that an exception ended: the log of their tracebacks, and how the command ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from planning.errors import PlanError
from planning.rollout import Episode
from worldmodel.atomic_io import no_links

ERRORS = "errors.log"
"""Name of the file of tracebacks in an output folder."""
log = logging.getLogger(__name__)


def begin_log(out: Path) -> None:
    """Remove the tracebacks of an earlier run into the same folder."""
    (out / ERRORS).unlink(missing_ok=True)


def log_failure(out: Path, agent: str, episode: Episode) -> None:
    """Append the traceback of an episode that an exception ended; do nothing for others."""
    if not episode.error:
        return
    log.warning("%s, seed %d: %s", agent, episode.seed, episode.reason)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ERRORS, "a", encoding="utf-8", errors="replace", opener=no_links) as file:
        file.write(f"{agent}, seed {episode.seed}: {episode.reason}\n{episode.error}\n")


def failed(episodes: Sequence[Episode]) -> list[Episode]:
    """Return the episodes that an exception ended."""
    return [episode for episode in episodes if episode.error]


def have_all_failed(episodes: Sequence[Episode]) -> bool:
    """Return whether there are episodes and an exception ended each of them."""
    return bool(episodes) and len(failed(episodes)) == len(episodes)


def closing_line(out: Path, found: Mapping[str, Sequence[Episode]]) -> str:
    """Return what to say at the end about episodes that an exception ended; empty without any.

    Args:
        out: Folder of the log.
        found: Episodes by agent.
    """
    rows = [(agent, episode) for agent, part in found.items() for episode in failed(part)]
    if not rows:
        return ""
    agent, first = rows[0]
    total = sum(map(len, found.values()))
    return (
        f"{len(rows)} of {total} episodes were ended by an exception, the first one of {agent}, "
        f"seed {first.seed}: {first.reason}. The tracebacks are in {out / ERRORS}"
    )


def exceptions_of(out: Path, found: Mapping[str, Sequence[Episode]]) -> dict[str, str]:
    """Return the closing line as an entry of the summary; nothing without exceptions."""
    line = closing_line(out, found)
    return {"exceptions": line} if line else {}


def require_an_episode(out: Path, agent: str, episodes: Sequence[Episode]) -> None:
    """Check that not every episode of an agent was ended by an exception.

    Raises:
        PlanError: All were; the message names the first one.
    """
    if have_all_failed(episodes):
        raise PlanError(f"No episode could be run: {closing_line(out, {agent: episodes})}")
