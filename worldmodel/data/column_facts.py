"""List the columns of a data set, with what its first readable episode holds in them.

Shapes: T control steps, W values of a column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.column_map import ColumnMap
from worldmodel.data.episode import Array, EpisodeError
from worldmodel.data.readers.options import ReadOptions

TRIED = 3
"""Number of episodes that are tried until one can be read."""
MAX_NAMES = 64
"""Maximum number of names of a column's values that are shown."""
INDICES = {"timestamp", "frame_index", "episode_index", "index", "task_index", "next.done"}
"""Columns of LeRobot that are counters."""


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """A column of a data set."""

    name: str
    is_frames: bool
    """Whether it holds a camera's frames."""
    shape: tuple[int, ...] = ()
    """Shape of its value in one step; empty if unknown."""
    names: tuple[str, ...] = ()
    """Names of its values, if the data set tells them."""
    values_TW: Array | None = None
    """Values in the first readable episode; None if there are none."""

    def line(self) -> str:
        """Return the column as a line of text: name, shape, names and range."""
        words = [self.name, "frames" if self.is_frames else "", str(list(self.shape))]
        if self.names:
            words.append(f"({', '.join(self.names)})")
        if self.values_TW is not None and self.values_TW.size:
            words.append(f"{self.values_TW.min():.3g} to {self.values_TW.max():.3g}")
        return " ".join(word for word in words if word)


def list_columns(root: Path, layout: str, options: ReadOptions) -> list[ColumnFacts]:
    """Return the columns of a LeRobot or RLDS data set.

    Raises:
        DataError: The description of the data set cannot be read.
    """
    return _lerobot(root, options) if layout == "lerobot" else _rlds(root, options)


def _lerobot(root: Path, options: ReadOptions) -> list[ColumnFacts]:
    from worldmodel.data.readers.lerobot_list import frame_keys, read_info

    features = read_info(root, options.links).get("features", {})
    frames = frame_keys({"features": features})
    numbers = {
        name: feature
        for name, feature in features.items()
        if isinstance(feature, dict)
        and name not in (*frames, *INDICES)
        and str(feature.get("dtype")).startswith(("float", "int", "uint", "bool"))
    }
    found = _lerobot_values(root, list(numbers), options)
    facts = [_feature(name, features[name], is_frames=True) for name in frames]
    return facts + [
        _feature(name, feature, is_frames=False, values_TW=found.get(name))
        for name, feature in numbers.items()
    ]


def _feature(
    name: str, feature: Any, *, is_frames: bool, values_TW: Array | None = None
) -> ColumnFacts:
    described = feature if isinstance(feature, dict) else {}
    shape = described.get("shape")
    sizes = tuple(n for n in shape if type(n) is int) if isinstance(shape, list) else ()
    return ColumnFacts(
        name=name,
        is_frames=is_frames,
        shape=sizes,
        names=() if is_frames else _names(described.get("names")),
        values_TW=values_TW,
    )


def _names(value: Any) -> tuple[str, ...]:
    """Return names from a list, or from a dictionary of one list, such as `motors`."""
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    good = isinstance(value, list) and 0 < len(value) <= MAX_NAMES
    return tuple(map(str, value)) if good and all(isinstance(n, str) for n in value) else ()


def _lerobot_values(root: Path, names: list[str], options: ReadOptions) -> dict[str, Array]:
    from worldmodel.data.readers.lerobot import episode_numbers
    from worldmodel.data.readers.lerobot_rows import read_column, read_rows

    for number in [n for n in episode_numbers(root, options.links) if n >= 0][:TRIED]:
        try:
            table = read_rows(root, number, options, tuple(names))
        except EpisodeError:
            continue
        found = {}
        for name in names:
            try:
                found[name] = read_column(table, name).reshape(len(table), -1)
            except EpisodeError:
                continue
        return found
    return {}


def rlds_values(root: Path, options: ReadOptions) -> dict[str, Any]:
    """Return the values of the first readable record of the first shard; empty if there is none.

    Raises:
        DataError: features.json cannot be read.
    """
    for data in islice(_payloads(root, options), TRIED):
        try:
            from worldmodel.data.readers.rlds_features import decode_record

            return decode_record(data, root, options.links)
        except EpisodeError:
            continue
    return {}


def _payloads(root: Path, options: ReadOptions) -> Iterator[bytes]:
    from worldmodel.data.files import require_file
    from worldmodel.data.readers.layouts import find_units
    from worldmodel.data.readers.tfrecord import RecordFile, scan

    for unit in find_units(root, options.links):
        path = root / unit.path
        try:
            require_file(path, root, links=options.links, missing="record_truncated")
            with RecordFile(path) as file:
                yield from (data for data in scan(file) if isinstance(data, bytes))
        except EpisodeError:
            continue


def _rlds(root: Path, options: ReadOptions) -> list[ColumnFacts]:
    from worldmodel.data.readers.rlds import count_steps, read_steps

    values = rlds_values(root, options)
    try:
        steps = count_steps(values)
    except EpisodeError:
        return []
    facts = []
    for key, value in values.items():
        if not key.startswith("steps/"):
            continue
        first = next(iter(np.asarray(value, object).flat), None)
        if isinstance(first, bytes):
            if first.startswith((b"\xff\xd8", b"\x89PNG")) and len(value) == steps:
                facts.append(ColumnFacts(name=key, is_frames=True))
            continue
        try:
            values_TW = read_steps(values, key, steps)
        except EpisodeError:
            continue
        shape = values_TW.shape[1:]
        facts.append(ColumnFacts(name=key, is_frames=False, shape=shape, values_TW=values_TW))
    return facts


def missing_columns(columns: ColumnMap, facts: list[ColumnFacts], layout: str) -> list[str]:
    """Return the columns of a map that a data set does not have."""
    from worldmodel.data.readers.rlds import full_key

    known = {fact.name: fact.is_frames for fact in facts}
    full = full_key if layout == "rlds" else str
    wanted = dict.fromkeys(columns.columns, False) | dict.fromkeys(columns.cameras.values(), True)
    return [name for name, frames in wanted.items() if known.get(full(name)) is not frames]
