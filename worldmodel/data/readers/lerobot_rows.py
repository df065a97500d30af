"""Read the rows of a LeRobot episode from its parquet file.

A v3.0 file holds many episodes: only the row groups of one are read, and kept for the next.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from worldmodel.data.episode import Array, EpisodeError
from worldmodel.data.files import require_file
from worldmodel.data.readers.lerobot_list import data_path
from worldmodel.data.readers.options import ReadOptions

POSE = "observation.state.cartesian_position"
GRIPPER = "observation.state.gripper_position"
JOINTS = "observation.state.joint_position"
SUCCESS = "is_episode_successful"
MAX_VALUES = 2**26
"""Maximum number of values of a column of a row group, which a file declares."""
Stamp = tuple[int, int]
"""Modification time [ns] and size [bytes] of a file."""


@lru_cache(maxsize=64)
def _groups(path: Path, stamp: Stamp) -> tuple[list[str], list[tuple[float, float]]]:
    """Return a file's columns, and the first and last episode of each of its row groups."""
    with pq.ParquetFile(path) as file:
        names, metadata = file.schema_arrow.names, file.metadata
        leaves = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
        index = leaves.index("episode_index") if "episode_index" in leaves else None
        groups = []
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            values = max(group.column(i).num_values for i in range(group.num_columns))
            if max(values, group.num_rows) > MAX_VALUES:
                raise EpisodeError(
                    "array_too_large",
                    f"{path.name} declares {values} values; at most {MAX_VALUES} are read at once",
                )
            stats = None if index is None else group.column(index).statistics
            if stats is None or not stats.has_min_max:
                groups.append((-np.inf, np.inf))
            else:
                groups.append((stats.min, stats.max))
    return names, groups


@lru_cache(maxsize=2)
def _group(path: Path, stamp: Stamp, group: int, columns: tuple[str, ...]) -> pa.Table:
    """Read columns of a row group; the next episodes of a file are usually in the same one."""
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=list(columns))


def read_rows(
    root: Path, number: int, options: ReadOptions, views: tuple[str, ...] = ()
) -> pa.Table:
    """Read the rows of an episode: the columns of numbers, or the images of some views.

    Raises:
        EpisodeError: `trajectory_missing`, `not_a_file`, `path_outside`, `trajectory_unreadable`,
            `trajectory_key_missing`, or `zero_length`.
    """
    path = data_path(root, number, options.links)
    facts = require_file(path, root, links=options.links, missing="trajectory_missing")
    stamp = (facts.st_mtime_ns, facts.st_size)
    try:
        names, groups = _groups(path, stamp)
        if "episode_index" not in names:
            raise EpisodeError("trajectory_key_missing", f"{path.name} has no episode_index")
        own = options.columns.columns or (POSE, GRIPPER, JOINTS)
        wanted = views or (*own, SUCCESS, "timestamp", *_extrinsics(names))
        columns = ("episode_index", *(name for name in names if name in wanted))
        read = _group.__wrapped__ if views else _group  # images would fill the memory
        tables = [
            read(path, stamp, group, columns)
            for group, (low, high) in enumerate(groups)
            if low <= number <= high
        ]
        parts = [t.filter(pc.equal(t["episode_index"], number)) for t in tables]
        table = pa.concat_tables(parts) if parts else None
    except (OSError, pa.ArrowException) as error:
        raise EpisodeError("trajectory_unreadable", f"{path.name}: {error}") from error
    if table is None or len(table) == 0:
        raise EpisodeError("zero_length", f"{path.name} has no row of episode {number}")
    return table


def _extrinsics(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("camera_extrinsics.")]


def read_column(table: pa.Table, name: str, width: int = 0) -> Array:
    """Return a column of numbers [T], or of lists of numbers [T, width] (0 allows any).

    Raises:
        EpisodeError: The column is missing, holds no numbers, or its rows differ in size.
    """
    if name not in table.column_names:
        raise EpisodeError("trajectory_key_missing", f"the rows have no {name}")
    rows = table[name].to_pylist()
    odd = next((i for i, row in enumerate(rows) if not _is_numeric(row)), None)
    if odd is not None:
        message = f"{name} is {str(rows[odd])[:100]} in row {odd}; numbers are needed"
        raise EpisodeError("row_malformed", message)
    try:
        values = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise EpisodeError("row_malformed", f"{name} has rows of several sizes") from error
    if width:
        values = values.reshape(len(rows), -1) if values.size else values
        if values.ndim != 2 or values.shape[1] != width:
            raise EpisodeError(
                "lengths_differ", f"{name} is {values.shape}; expected [{len(rows)}, {width}]"
            )
    return values


def _is_numeric(row: object) -> bool:
    if isinstance(row, list):  # of flags it is not a pose; a single one may be a gripper
        return bool(row) and all(_is_numeric(x) and not isinstance(x, bool) for x in row)
    return isinstance(row, (int, float))
