"""Index a data set: list usable episodes, and the reason for every reject.

Every episode appears either in the manifest or among the rejects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from worldmodel.data.cache import code_digest, digest_of
from worldmodel.data.column_guess import blame_map, find_map
from worldmodel.data.data_root import find_root
from worldmodel.data.episode import EpisodeError
from worldmodel.data.files import inside, read_json
from worldmodel.data.index_files import (
    COMMAND,
    MANIFEST,
    SUMMARY,
    IndexFacts,
    UnitRows,
    write_index,
)
from worldmodel.data.index_store import IndexStore, Row, is_accepted, is_summary
from worldmodel.data.inspection import IndexOptions, inspect_units
from worldmodel.data.readers.layouts import Unit, check_description, find_units, fingerprint
from worldmodel.data.readers.options import CONTROL_HZ
from worldmodel.errors import ConfigError, DataError
from worldmodel.shards import Shard, begin_shard, finish_shard


def _asked(options: IndexOptions) -> dict[str, Any]:
    """Return everything except the files that the rows depend on."""
    return {**dataclasses.asdict(options), "code": code_digest()}


def build_index(
    root: Path,
    out: Path,
    options: IndexOptions | None = None,
    *,
    workers: int = 2,
    shard: Shard | None = None,
) -> dict[str, Any]:
    """Inspect every episode under `root`; write manifest, rejects and summary to `out`.

    A rerun with the same options inspects only units whose files changed.

    Args:
        root: Folder of raw DROID, RLDS or LeRobot episodes, see `find_root`.
        out: Folder of `manifest.jsonl`, `rejects.jsonl` and `summary.json`.
        options: Criteria for accepting episodes.
        workers: Number of processes.
        shard: Part of the units to inspect, written to its own folder; `merge_index` joins them.

    Returns:
        Summary: numbers of accepted and rejected episodes, reasons, notes, hours. Of a shard:
        numbers of units and episodes.

    Raises:
        DataError: There is no usable episode.
        ConfigError: `rlds_fps` is set for another layout, or the map of columns is missing or
            does not fit; the message lists the columns.
    """
    options, root = options or IndexOptions(), find_root(root)
    units = _list_units(root, options)
    columns, source = find_map(root, units[0].layout, options.read)
    options = replace(options, read=replace(options.read, columns=columns))
    facts = IndexFacts(
        root=str(root),
        layout=units[0].layout,
        camera=options.read.camera,
        views=list(options.read.views),
        links=options.read.links,
        rlds_fps=options.read.rlds_fps,
        map=columns.changed(),
        map_from=source,
        same_size=options.frame_size == "majority",
    )
    if shard is not None:
        return _index_shard(shard, out, facts, units, options, workers)
    found, inspected = _inspect(units, out, options, workers)
    blame = functools.partial(blame_map, columns, root, facts.layout, options.read)
    return write_index(out, facts, found, inspected, blame)


def _list_units(root: Path, options: IndexOptions) -> list[Unit]:
    units = find_units(root, options.read.links)
    if not units:
        raise DataError(
            f"No episode under {root}: it must hold raw DROID folders (trajectory.h5), RLDS shards "
            "(*.tfrecord) with features.json, or LeRobot's meta/info.json"
        )
    check_description(root, options.read.links)
    if units[0].layout != "rlds" and options.read.rlds_fps != CONTROL_HZ:
        raise ConfigError(
            f"rlds_fps={options.read.rlds_fps:g} is for RLDS, and {root} is {units[0].layout}, "
            "which holds timestamps: leave rlds_fps out"
        )
    return units


def _inspect(
    units: Sequence[Unit], out: Path, options: IndexOptions, workers: int
) -> tuple[list[UnitRows], int]:
    """Return the rows of all units, and how many units were not known from an earlier run."""
    out.mkdir(parents=True, exist_ok=True)
    store = IndexStore(out, _asked(options))
    fingerprints = {u.key: fingerprint(u, options.read.links) for u in units}
    todo = [u for u in units if store.get(u.key, fingerprints[u.key]) is None]
    with contextlib.closing(inspect_units(todo, options, workers)) as inspected:
        for unit, unit_rows in tqdm(inspected, total=len(todo), desc="indexing", unit="unit"):
            store.add(unit.key, fingerprints[unit.key], unit_rows)
    store.close(list(fingerprints))
    return [(key, stamp, store.units[key][1]) for key, stamp in fingerprints.items()], len(todo)


def _index_shard(
    shard: Shard,
    out: Path,
    facts: IndexFacts,
    units: Sequence[Unit],
    options: IndexOptions,
    workers: int,
) -> dict[str, Any]:
    """Inspect one shard of the units; `merge_index` compares sizes and writes the index."""
    folder = shard.folder(out)
    made_by = {
        "facts": dataclasses.asdict(facts),
        "options": _asked(options),
        "num_units": len(units),
        "units": digest_of([u.key for u in units]),
    }
    record = begin_shard(folder, COMMAND, shard, made_by, replace=True)
    found, inspected = _inspect(shard.of(units), folder, options, workers)
    rows = [row for _, _, unit_rows in found for row in unit_rows]
    rejected = sum("reason" in row for row in rows)
    summary = {"units": len(found), "inspected": inspected, "rejected": rejected}
    summary["usable"] = len(rows) - rejected
    finish_shard(folder, record, summary)
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
        DataError: There is no index in `folder`, or its data set is missing.
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
