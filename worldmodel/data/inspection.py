"""Inspect episodes: a row of facts for each usable one, or a reject with its reason."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.data.episode import Episode, EpisodeError, rejecting
from worldmodel.data.index_rows import PLACE
from worldmodel.data.index_store import Row
from worldmodel.data.readers.layouts import Unit, read_unit
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.video import VideoFrames
from worldmodel.errors import DataError
from worldmodel.processes import WorkerPool


@dataclass(frozen=True, kw_only=True)
class IndexOptions(Checked):
    """Criteria for accepting episodes."""

    read: ReadOptions = field(default_factory=ReadOptions)
    """How strictly each episode is inspected."""
    failures: Literal["keep", "drop"] = "keep"
    """Whether failed episodes are kept, as for V-JEPA 2-AC, or rejected."""
    min_seconds: float = field(default=0.0, metadata=between(0, 86_400, "s"))
    """Minimum duration of an accepted episode [s] (V-JEPA 2-AC: 4)."""
    extrinsics: Literal["any", "required"] = "any"
    """Whether to reject episodes without poses of the chosen camera (`required`)."""
    frame_size: Literal["majority", "any"] = "majority"
    """Whether to reject episodes whose frame size differs from that of most episodes
    (`majority`)."""


def _accepted(unit: Unit, record: int, episode: Episode, options: IndexOptions) -> Row:
    if options.failures == "drop" and episode.success is False:
        raise EpisodeError("failure_dropped", "a failed episode, and failures=drop")
    if episode.seconds < options.min_seconds:
        raise EpisodeError(
            "too_short", f"{episode.seconds:.2f} s; min_seconds is {options.min_seconds}"
        )
    view = episode.camera(options.read.camera)
    for name in options.read.views:
        episode.camera(name)
    if options.extrinsics == "required":
        episode.extrinsics(view.name)
    size, where = getattr(view.frames, "size", None), None
    if isinstance(view.frames, VideoFrames):
        facts = view.frames.path.stat()
        where = f"{facts.st_dev}:{facts.st_ino}:{view.frames.first}"
    sent = episode.actions_TA
    return {
        "path": unit.path,
        "record": record,
        "layout": unit.layout,
        "id": episode.id,
        "steps": len(episode),
        "seconds": round(episode.seconds, 4),
        "camera": view.name,
        "cameras": {c.name: c.serial for c in episode.cameras.values()},
        "frame_size": list(size) if size else None,
        PLACE: where,
        "state_dim": episode.states_TS.shape[1],
        "action_dim": (episode.states_TS if sent is None else sent).shape[1],
        "success": episode.success,
        "task": episode.task,
        "moving_steps": int(episode.moving_T.sum()),
        "notes": list(episode.notes),
    }


def index_unit(unit: Unit, options: IndexOptions) -> list[Row]:
    """Return one row per episode of a unit; a row with a `reason` is a reject.

    Whatever a reader raises becomes a reject: one file never ends the run. A fault that no reader
    expects has the reason `reader_failed`, and its row holds the `traceback`.
    """
    rows: list[Row] = []
    try:
        for record, outcome in read_unit(unit, options.read):
            try:
                if isinstance(outcome, EpisodeError):
                    raise outcome
                with rejecting(unit.key):
                    rows.append(_accepted(unit, record, outcome, options))
            except EpisodeError as error:
                rows.append(_rejected(unit, record, error))
    except EpisodeError as error:
        rows.append(_rejected(unit, unit.record, error))
    except DataError as error:  # a description of the whole set that changed meanwhile
        rows.append(_rejected(unit, unit.record, EpisodeError("data_set_unreadable", str(error))))
    return rows


def _rejected(unit: Unit, record: int, error: EpisodeError) -> Row:
    row = {
        "path": unit.path,
        "record": record,
        "layout": unit.layout,
        "reason": error.reason,
        "message": str(error),
    }
    if error.reason == "reader_failed" and error.__cause__ is not None:
        row["traceback"] = "".join(traceback.format_exception(error.__cause__))
    return row


def inspect_units(
    units: Sequence[Unit], options: IndexOptions, workers: int
) -> Generator[tuple[Unit, list[Row]], None, None]:
    """Inspect units in parallel; a file that crashes its reader is rejected by itself."""
    if workers <= 1 or len(units) <= 1:
        for unit in units:
            yield unit, index_unit(unit, options)
        return

    def crashed(unit: Unit, how: str) -> list[Row]:
        error = EpisodeError("reader_crashed", f"the decoder died on this file ({how})")
        return [_rejected(unit, unit.record, error)]

    work = functools.partial(index_unit, options=options)
    with WorkerPool(work, min(workers, len(units))) as pool:
        yield from pool.unordered(units, crashed)
