"""Files of an index: written by one run, or merged from the shards of several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.atomic_io import write_json, write_text
from worldmodel.data.cache import digest_of
from worldmodel.data.index_rows import check_places, check_sizes, warn_of_doubts, write_tracebacks
from worldmodel.data.index_store import IndexStore, Row
from worldmodel.errors import DataError
from worldmodel.shards import interleave, read_shards

MANIFEST, REJECTS, SUMMARY = "manifest.jsonl", "rejects.jsonl", "summary.json"
ERRORS = "errors.log"
"""Tracebacks of the rejects `reader_failed`."""
COMMAND = "data index"

UnitRows = tuple[str, str, list[Row]]
"""Key of a unit, the fingerprint of its files, and its rows."""


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What the summary says about the data set and the options."""

    root: str
    layout: str
    camera: str
    views: list[str] = field(default_factory=list)
    """Cameras that each episode has; empty for `camera` alone."""
    links: str
    rlds_fps: float
    map: dict[str, Any]
    """Columns with names of their own; empty for DROID's."""
    map_from: str
    """Where the map of columns is from."""
    same_size: bool
    """Whether episodes are rejected whose frame size differs from that of most episodes."""


def write_index(
    out: Path,
    facts: IndexFacts,
    units: Sequence[UnitRows],
    inspected: int,
    blame: Callable[[], str] = str,
) -> dict[str, Any]:
    """Write manifest, rejects and summary of a data set; return the summary.

    Args:
        out: Output folder.
        facts: Data set and options.
        units: All units in order.
        inspected: Number of units that were inspected by this run.
        blame: Returns what to add to the message if there is no usable episode.

    Raises:
        DataError: There is no usable episode.
    """
    found = [dict(row) for _, _, unit_rows in units for row in unit_rows]
    write_tracebacks(out / ERRORS, found)
    rows = check_sizes(check_places(found), frame_size=facts.same_size)
    accepted = [r for r in rows if "reason" not in r]
    rejected = [r for r in rows if "reason" in r]
    paths = {r["path"] for r in accepted}
    used = [stamp for key, stamp, _ in units if key.rpartition("#")[0] in paths]
    summary = {
        "root": facts.root,
        "layout": facts.layout,
        "accepted": len(accepted),
        "rejected": len(rejected),
        "reasons": dict(Counter(r["reason"] for r in rejected).most_common()),
        "notes": dict(Counter(n for r in accepted for n in r["notes"])),
        "hours": round(sum(r["seconds"] for r in accepted) / 3600, 6),
        "inspected": inspected,
        "camera": facts.camera,
        "views": facts.views,
        "links": facts.links,
        "rlds_fps": facts.rlds_fps,
        "map": facts.map,
        "map_from": facts.map_from,
        "fingerprint": digest_of([facts.map, *used]),
    }
    warn_of_doubts(summary["notes"], Path(facts.root))
    write_text(out / MANIFEST, "".join(json.dumps(r) + "\n" for r in accepted))
    write_text(out / REJECTS, "".join(json.dumps(r) + "\n" for r in rejected))
    write_json(out / SUMMARY, summary)
    if not accepted:
        raise DataError(
            f"None of the {len(rejected)} episodes under {facts.root} can be used; reasons: "
            f"{summary['reasons']}. See {out / REJECTS}" + blame()
        )
    return summary


def merge_index(out: Path) -> dict[str, Any]:
    """Write the index of all shards, as one run over the whole data set writes it.

    Raises:
        DataError: A shard is missing, unfinished, there twice or damaged; or no episode is usable.
        ConfigError: The shards are not of one run.
    """
    shards = read_shards(out)
    made_by = shards[0][1].made_by
    stores = [IndexStore(folder, made_by["options"]) for folder, _ in shards]
    units = interleave([[(key, *rest) for key, rest in s.units.items()] for s in stores])
    keys = [key for key, _, _ in units]
    if digest_of(keys) != made_by["units"]:
        counts = {folder.name: len(s.units) for (folder, _), s in zip(shards, stores, strict=True)}
        raise DataError(
            f"The shards of {out} hold {len(keys)} of {made_by['num_units']} units, or not in "
            f"their order: a file is damaged (units by shard: {counts}). Run the shards again"
        )
    out.mkdir(parents=True, exist_ok=True)
    store = IndexStore(out, made_by["options"])
    store.replace({key: (stamp, rows) for key, stamp, rows in units})
    inspected = sum(int(record.result["inspected"]) for _, record in shards)
    return write_index(out, IndexFacts(**made_by["facts"]), units, inspected)
