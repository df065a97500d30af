"""Index a data set: list usable episodes, and the reason for every reject.

Every episode appears either in the manifest or among the rejects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import traceback
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from worldmodel.atomic_io import write_json, write_text
from worldmodel.checked import Checked, between
from worldmodel.data.cache import code_digest, digest_of
from worldmodel.data.column_guess import blame_map, find_map
from worldmodel.data.data_root import find_root
from worldmodel.data.episode import Episode, EpisodeError, rejecting
from worldmodel.data.files import inside, read_json
from worldmodel.data.index_rows import check_sizes, warn_of_doubts, write_tracebacks
from worldmodel.data.index_store import IndexStore, Row, is_accepted, is_summary
from worldmodel.data.readers.layouts import (
    Unit,
    check_description,
    find_units,
    fingerprint,
    read_unit,
)
from worldmodel.data.readers.options import CONTROL_HZ, ReadOptions
from worldmodel.errors import ConfigError, DataError
from worldmodel.processes import WorkerPool

MANIFEST, REJECTS, SUMMARY = "manifest.jsonl", "rejects.jsonl", "summary.json"
ERRORS = "errors.log"
"""Tracebacks of the rejects `reader_failed`."""


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
    if options.extrinsics == "required":
        episode.extrinsics(view.name)
    size = getattr(view.frames, "size", None)
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


def _run(
    units: list[Unit], options: IndexOptions, workers: int
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


def _asked(options: IndexOptions) -> dict[str, Any]:
    """Return everything except the files that the rows depend on."""
    return {**dataclasses.asdict(options), "code": code_digest()}


def build_index(
    root: Path, out: Path, options: IndexOptions | None = None, *, workers: int = 2
) -> dict[str, Any]:
    """Inspect every episode under `root`; write manifest, rejects and summary to `out`.

    A rerun with the same options inspects only units whose files changed.

    Args:
        root: Folder of raw DROID, RLDS or LeRobot episodes, see `find_root`.
        out: Folder of `manifest.jsonl`, `rejects.jsonl` and `summary.json`.
        options: Criteria for accepting episodes.
        workers: Number of processes.

    Returns:
        Summary: numbers of accepted and rejected episodes, reasons, notes, hours.

    Raises:
        DataError: There is no usable episode.
        ConfigError: `rlds_fps` is set for another layout, or the map of columns is missing or
            does not fit; the message lists the columns.
    """
    options, root = options or IndexOptions(), find_root(root)
    units = find_units(root, options.read.links)
    if not units:
        raise DataError(
            f"No episode under {root}: it must hold raw DROID folders (trajectory.h5), RLDS shards "
            "(*.tfrecord) with features.json, or LeRobot's meta/info.json"
        )
    check_description(root, options.read.links)
    columns, source = find_map(root, units[0].layout, options.read)
    options = replace(options, read=replace(options.read, columns=columns))
    if units[0].layout != "rlds" and options.read.rlds_fps != CONTROL_HZ:
        raise ConfigError(
            f"rlds_fps={options.read.rlds_fps:g} is for RLDS, and {root} is {units[0].layout}, "
            "which holds timestamps: leave rlds_fps out"
        )
    out.mkdir(parents=True, exist_ok=True)
    store, fingerprints = (
        IndexStore(out, _asked(options)),
        {u.key: fingerprint(u, options.read.links) for u in units},
    )
    todo = [u for u in units if store.get(u.key, fingerprints[u.key]) is None]
    with contextlib.closing(_run(todo, options, workers)) as inspected:
        for unit, unit_rows in tqdm(inspected, total=len(todo), desc="indexing", unit="unit"):
            store.add(unit.key, fingerprints[unit.key], unit_rows)
    store.close(set(fingerprints))
    found = [dict(row) for u in units for row in store.units[u.key][1]]
    write_tracebacks(out / ERRORS, found)
    rows = check_sizes(found, frame_size=options.frame_size == "majority")
    accepted = [r for r in rows if "reason" not in r]
    rejected = [r for r in rows if "reason" in r]
    paths = {r["path"] for r in accepted}
    summary = {
        "root": str(root),
        "layout": units[0].layout,
        "accepted": len(accepted),
        "rejected": len(rejected),
        "reasons": dict(Counter(r["reason"] for r in rejected).most_common()),
        "notes": dict(Counter(n for r in accepted for n in r["notes"])),
        "hours": round(sum(r["seconds"] for r in accepted) / 3600, 6),
        "inspected": len(todo),
        "camera": options.read.camera,
        "links": options.read.links,
        "rlds_fps": options.read.rlds_fps,
        "map": columns.changed(),
        "map_from": source,
        "fingerprint": digest_of(
            [columns.changed(), *(fingerprints[u.key] for u in units if u.path in paths)]
        ),
    }
    warn_of_doubts(summary["notes"], root)
    write_text(out / MANIFEST, "".join(json.dumps(r) + "\n" for r in accepted))
    write_text(out / REJECTS, "".join(json.dumps(r) + "\n" for r in rejected))
    write_json(out / SUMMARY, summary)
    if not accepted:
        raise DataError(
            f"None of the {len(rejected)} episodes under {root} can be used; reasons: "
            f"{summary['reasons']}. See {out / REJECTS}"
            + blame_map(columns, root, units[0].layout, options.read)
        )
    return summary


@dataclass(frozen=True)
class Manifest:
    """Index of a data set."""

    root: Path
    """Folder of the episodes."""
    rows: list[Row]
    """Accepted episodes."""
    summary: dict[str, Any]
    """Summary returned by `build_index`."""

    @property
    def reject_fraction(self) -> float:
        """Return the fraction of episodes that were rejected, 0 to 1."""
        total = self.summary["accepted"] + self.summary["rejected"]
        return float(self.summary["rejected"] / max(1, total))

    def check(self, max_reject_fraction: float) -> None:
        """Check that the fraction of rejects is at most `max_reject_fraction`.

        Raises:
            DataError: More were rejected; the message lists the reasons and the option that allows
                more.
        """
        if self.reject_fraction > max_reject_fraction:
            raise DataError(
                f"{self.reject_fraction:.1%} of the episodes under {self.root} were rejected "
                f"(allowed: max_reject_fraction={max_reject_fraction}); reasons: "
                f"{self.summary['reasons']}. Fix the episodes, or raise max_reject_fraction"
            )


def open_manifest(folder: Path) -> Manifest:
    """Read the index that `build_index` wrote to `folder`.

    Raises:
        DataError: There is no index in `folder`, or its data set is not there any more.
    """
    if not (folder / MANIFEST).is_file() or not (folder / SUMMARY).is_file():
        raise DataError(
            f"No index in {folder}: make one with `worldmodel data index root=DIR out={folder}`"
        )
    summary = read_json(folder / SUMMARY, folder, links="all", reason="index_unreadable")
    if not is_summary(summary):
        raise DataError(f"{folder / SUMMARY} is not the summary of an index: index the data again")
    root = Path(summary["root"])
    if not root.is_dir():
        raise DataError(
            f"The index in {folder} lists episodes of {root}, which is not a folder here. If it "
            f"moved, run `worldmodel data index root=NEW_FOLDER out={folder}`"
        )
    rows = list(_read_rows(folder / MANIFEST, root))
    if len(rows) != summary["accepted"]:
        raise DataError(
            f"{folder / MANIFEST} lists {len(rows)} of {summary['accepted']} episodes: index the "
            "data again"
        )
    return Manifest(root, rows, summary)


def _read_rows(path: Path, root: Path) -> Iterator[Row]:
    """Yield the rows of a manifest, whose paths must lie inside the data set."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                valid = is_accepted(row) and bool(inside(root, row["path"]))
            except (ValueError, RecursionError, EpisodeError):
                valid = False
            if not valid:
                raise DataError(
                    f"Line {number} of {path} is not an episode of {root}: index the data again"
                )
            yield row
