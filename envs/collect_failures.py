"""Recorded episodes that an exception ended: their reasons, the log of tracebacks, and the end."""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.errors import TaskError

ERRORS = "errors.log"
"""Name of the file of tracebacks in the output folder."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of a full or read-only disk, a spent quota and a file size limit."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FailedEpisode:
    """An episode that an exception ended; nothing of it is written."""

    seed: int
    """Seed of the episode."""
    reason: str
    """Class and message of the exception."""
    traceback: str
    """Traceback of the exception."""


def is_of_disk(error: BaseException) -> bool:
    """Return whether an error is of the disk, and not of an episode."""
    return isinstance(error, OSError) and error.errno in DISK


def failed_by(error: BaseException, seed: int) -> FailedEpisode:
    """Return the record of an episode that an exception ended."""
    reason = " ".join(traceback.format_exception_only(error)[-1].split())
    text = "".join(traceback.format_exception(error))
    return FailedEpisode(seed=seed, reason=reason[:300], traceback=text)


def log_failure(out: Path, failure: FailedEpisode) -> None:
    """Append the traceback of an episode to the log."""
    log.warning("seed %d: %s", failure.seed, failure.reason)
    with (out / ERRORS).open("a", encoding="utf-8", errors="replace") as file:
        file.write(f"seed {failure.seed}: {failure.reason}\n{failure.traceback}\n")


def failures_of(summary: Mapping[str, Any], out: Path) -> str:
    """Return what to say about episodes that an exception ended; empty without any.

    Args:
        summary: What `collect` returned.
        out: Folder of the episodes and of the log.

    Raises:
        TaskError: Each episode of this run was ended by an exception.
    """
    failed, recorded = summary["failed"], summary["episodes"]
    if not failed:
        return ""
    text = (
        f"{len(failed)} of {len(failed) + recorded} episodes were ended by an exception, the first "
        f"one of seed {failed[0]['seed']}: {failed[0]['reason']}. The tracebacks are in "
        f"{out / ERRORS}; the same command records these episodes again"
    )
    if recorded or summary["interrupted"]:
        return text
    raise TaskError(text)
