"""Join the shards of `worldmodel features`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from worldmodel.atomic_io import atomic_file
from worldmodel.errors import DataError
from worldmodel.perception.features.extract import SHARD_FILE, Result, check_some
from worldmodel.perception.hdf5_file import read_results, require_space
from worldmodel.shards import read_shards


def merge_features(out: Path) -> tuple[Result, dict[str, Any]]:
    """Write one file with the features of all shards, as one run over all videos writes it.

    Returns:
        Counts of all shards, and what the features depend on.

    Raises:
        DataError: A shard is missing, unfinished, there twice or damaged; or no video was readable.
        ConfigError: The shards are not of one run.
        OSError: The disk has too little space; the error names `out`.
    """
    shards = read_shards(out)
    results = [Result(**record.result) for _, record in shards]
    total = Result(
        sum(result.videos for result in results),
        sum(result.clips for result in results),
        sum(result.skipped for result in results),
        {name: why for result in results for name, why in result.rejected.items()},
    )
    check_some(total)
    files = [folder / SHARD_FILE for folder, _ in shards]
    require_space(out, sum(file.stat().st_size for file in files if file.is_file()))
    with atomic_file(out) as part, h5py.File(part, "w") as merged:
        for (folder, _), result in zip(shards, results, strict=True):
            complete = _copy_videos(folder / SHARD_FILE, merged)
            if complete != result.videos:
                raise DataError(
                    f"{folder / SHARD_FILE} holds {complete} of {result.videos} videos: run that "
                    "shard again"
                )
    return total, shards[0][1].made_by


def _copy_videos(path: Path, merged: h5py.File) -> int:
    """Copy file attributes and the groups of all videos; return how many are complete."""
    try:
        with read_results(path) as file:
            merged.attrs.update(file.attrs)
            groups: list[h5py.Group] = []
            # A video in a subfolder is a group inside groups, which have no attributes.
            file.visititems(
                lambda _, found: groups.append(found) if "source" in found.attrs else None
            )
            for group in groups:
                parent, _, leaf = group.name.rpartition("/")
                file.copy(group, merged.require_group(parent or "/"), name=leaf)
            return sum(bool(group.attrs.get("complete")) for group in groups)
    except (OSError, RuntimeError, ValueError) as error:  # how h5py reports a damaged file
        raise DataError(f"{path} cannot be read: {error}. Run its shard again") from error
