"""Shards of a command: parts that several processes or machines make, and that are then merged.

Shard I of N takes every N-th item of the command's list, beginning with item I. It writes to the
folder `OUT.shards/I-of-N`, and to `shard.json` there what its results depend on; the entry
`finished` becomes true at the end. A shard that is run again resumes.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.atomic_io import write_json
from worldmodel.checked import Checked, between
from worldmodel.dotted_names import dotted
from worldmodel.errors import ConfigError, DataError

T = TypeVar("T")
RECORD = "shard.json"
MAX_SHARDS = 100_000


@dataclass(frozen=True, kw_only=True)
class Shard(Checked):
    """One shard of a split."""

    number: int = field(metadata=between(0, MAX_SHARDS - 1))
    """Number of the shard, from 0."""
    count: int = field(metadata=between(1, MAX_SHARDS))
    """Number of shards of the split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.number >= self.count:
            raise ConfigError(
                f"shard={self.number} of shards={self.count}; allowed: 0 to {self.count - 1}"
            )

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items of this shard."""
        return items[self.number :: self.count]

    def folder(self, out: Path) -> Path:
        """Return the folder that this shard of the output `out` is written to."""
        return shards_folder(out) / f"{self.number}-of-{self.count}"


def shards_folder(out: Path) -> Path:
    """Return the folder of all shards of an output, which is a folder or a file."""
    return out.parent / f"{out.name}.shards"


def interleave(shards: Sequence[Sequence[T]]) -> list[T]:
    """Return the items of all shards in the order of the list that was split."""
    rows = itertools.zip_longest(*([(item,) for item in items] for items in shards))
    return [cell[0] for row in rows for cell in row if cell is not None]


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """Content of `shard.json`."""

    command: str
    """Command that made the shard, such as `data index`."""
    shard: int
    shards: int
    made_by: dict[str, Any]
    """All that the results depend on, the list of all items included; equal in all shards."""
    finished: bool = False
    """Whether the shard is complete."""
    result: dict[str, Any] = field(default_factory=dict)
    """What the merge needs, beside the shard's files."""


def begin_shard(
    folder: Path,
    command: str,
    shard: Shard,
    made_by: Mapping[str, object],
    *,
    replace: bool = False,
) -> ShardRecord:
    """Mark a shard as unfinished.

    Args:
        folder: Folder of the shard.
        command: Name of the command.
        shard: Number and count.
        made_by: All that the results depend on.
        replace: Whether the command replaces results of another `made_by` itself.

    Raises:
        ConfigError: The folder holds results of something else; the message names the differences.
    """
    facts = json.loads(json.dumps(made_by))
    record = ShardRecord(command=command, shard=shard.number, shards=shard.count, made_by=facts)
    before = None if replace else _read(folder)
    if before is not None and (before.command, before.made_by) != (command, facts):
        raise ConfigError(
            f"{folder} holds results of something else ({_difference(before, record)}): use "
            "another out=, or delete that folder"
        )
    write_json(folder / RECORD, asdict(record))
    return record


def finish_shard(folder: Path, record: ShardRecord, result: Mapping[str, object]) -> None:
    """Mark a shard as finished and record its result."""
    write_json(folder / RECORD, asdict(record) | {"finished": True, "result": result})


def read_shards(out: Path) -> list[tuple[Path, ShardRecord]]:
    """Return folder and record of every shard of an output, in order.

    Raises:
        DataError: There is no shard; or shards are missing, unfinished or there twice.
        ConfigError: The shards are not of one run; the message names the differences.
    """
    parent = shards_folder(out)
    folders = sorted(p for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
    found = [(folder, _read(folder)) for folder in folders]
    records = [(folder, record) for folder, record in found if record is not None]
    if not records:
        raise DataError(
            f"{parent} holds no shard: run the command with out={out} shard=I shards=N for every I "
            "from 0 to N-1 (in one sweep: -m 'shard=range(N)' shards=N)"
        )
    _check_one_split(records, parent)
    first = records[0][1]
    for folder, record in records:
        if (record.command, record.made_by) != (first.command, first.made_by):
            raise ConfigError(
                f"{folder} and {records[0][0]} are not of one run ({_difference(first, record)}): "
                "run the shards again with the same options and data, or delete the older ones"
            )
    return sorted(records, key=lambda pair: pair[1].shard)


def _check_one_split(records: Sequence[tuple[Path, ShardRecord]], parent: Path) -> None:
    """Check that a split is complete, and that there is no other."""
    counts = Counter(record.shards for _, record in records)
    if len(counts) > 1:
        listed = ", ".join(f"{n} of shards={count}" for count, n in sorted(counts.items()))
        raise DataError(
            f"{parent} holds shards of several splits ({listed}): delete the folders of all but one"
        )
    by_number: dict[int, list[str]] = defaultdict(list)
    for folder, record in records:
        by_number[record.shard].append(folder.name)
    total = next(iter(counts))
    doubled = {n: names for n, names in by_number.items() if len(names) > 1}
    if doubled:
        listed = "; ".join(f"{n} in {' and '.join(names)}" for n, names in doubled.items())
        raise DataError(f"{parent} holds shards twice: {listed}. Delete one folder of each")
    missing = sorted(set(range(total)) - set(by_number))
    unfinished = sorted(record.shard for _, record in records if not record.finished)
    problems = [
        f"{what}: {spans(numbers)}"
        for what, numbers in (("missing", missing), ("not finished", unfinished))
        if numbers
    ]
    if problems:
        again = ",".join(map(str, sorted(missing + unfinished)[:20]))
        raise DataError(
            f"{parent} is incomplete, of {total} shards are {'; '.join(problems)}. Run these again "
            f"(-m shard={again}), then merge"
        )


def spans(numbers: Iterable[int]) -> str:
    """Write sorted numbers as spans: `0, 3-5, 9`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _read(folder: Path) -> ShardRecord | None:
    """Return the record of a shard; None if the folder has none that can be read."""
    try:
        found = json.loads((folder / RECORD).read_bytes())
        record = ShardRecord(**found)
        Shard(number=record.shard, count=record.shards)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    fits = isinstance(record.made_by, dict) and isinstance(record.result, dict)
    return record if fits and isinstance(record.command, str) else None


def _difference(a: ShardRecord, b: ShardRecord) -> str:
    """Name what two records differ in."""
    if a.command != b.command:
        return f"of `{a.command}` and of `{b.command}`"
    one, other = dict(dotted(a.made_by)), dict(dotted(b.made_by))
    parts = [
        f"{key}: {_short(one.get(key))}, {_short(other.get(key))}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]
    return "; ".join(parts)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
