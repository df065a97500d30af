"""What an index says about its rows together: sizes that differ, doubts, and tracebacks."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

from worldmodel.atomic_io import write_text
from worldmodel.data.index_store import Row
from worldmodel.data.readers.options import TIMESTAMPS_SAY, UNCHECKED

log = logging.getLogger(__name__)
PLACE = "frames_at"
"""Entry of a row that is compared and not kept: file on this machine and first frame, or None."""


def _majority(rows: list[Row], fact: str) -> object:
    """Return the value of a fact shared by more than half of the accepted rows, or None."""
    counts = Counter(json.dumps(r[fact]) for r in rows if r.get(fact))
    if not counts:
        return None
    value, count = counts.most_common(1)[0]
    return json.loads(value) if count * 2 > counts.total() else None


def _require_majority(rows: list[Row], fact: str, *, needed: bool) -> list[Row]:
    """Reject rows whose value of a fact differs from the majority's.

    Args:
        rows: Accepted and rejected rows.
        fact: Name of the fact, which is also the reason code of the rejects.
        needed: Whether to reject all rows if no value has a majority.
    """
    common = _majority(rows, fact)
    if common is None and not needed:
        return rows
    out = []
    for row in rows:
        value = row.get(fact)
        if not value or value == common:
            out.append(row)
            continue
        others = "the others agree on none" if common is None else f"most episodes have {common}"
        message = f"{fact}: {value}, but {others}"
        out.append(_rejected(row, fact, message))
    return out


def _rejected(row: Row, reason: str, message: str) -> Row:
    kept = {key: row[key] for key in ("path", "record", "layout")}
    return {**kept, "reason": reason, "message": message}


def check_places(rows: list[Row]) -> list[Row]:
    """Reject episodes whose frames are the same part of one file, as behind links.

    Nothing tells whose frames they are.
    """
    places = [row.pop(PLACE, None) for row in rows]
    counts = Counter(place for place in places if place)
    out = []
    for row, place in zip(rows, places, strict=True):
        message = f"video_span: {counts[place]} episodes have the same frames of one file"
        out.append(row if counts[place] < 2 else _rejected(row, "video_span", message))
    return out


def check_sizes(rows: list[Row], *, frame_size: bool) -> list[Row]:
    """Reject episodes whose sizes of state, action or (`frame_size`) frames are in a minority."""
    rows = _require_majority(rows, "state_dim", needed=True)
    rows = _require_majority(rows, "action_dim", needed=True)
    if frame_size:
        rows = _require_majority(rows, "frame_size", needed=False)
    return rows


def warn_of_doubts(notes: dict[str, int], root: Path) -> None:
    """Warn of notes that may mean wrong data."""
    for note, count in notes.items():
        if note.startswith(TIMESTAMPS_SAY):
            log.warning(
                "%s (%d episodes of %s): pass rlds_fps= if the control rate is another",
                note,
                count,
                root,
            )
        elif note == UNCHECKED:
            log.warning("%d records under %s have no checksums to compare", count, root)


def write_tracebacks(path: Path, rows: list[Row]) -> None:
    """Move the tracebacks of rejects into a log file."""
    found = [(row, row.pop("traceback")) for row in rows if "traceback" in row]
    if found:
        parts = [f"{row['path']}#{row['record']}: {row['message']}\n{text}" for row, text in found]
        write_text(path, "\n".join(parts).encode("ascii", "backslashreplace").decode())
    else:
        path.unlink(missing_ok=True)
