"""Join the shards of `worldmodel data prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldmodel.atomic_io import link_or_copy, write_json
from worldmodel.data.cache import digest_of
from worldmodel.data.prepare import PLAN, SUMMARY, read_plan, summarise
from worldmodel.data.shard_file import HASH, stored_hash
from worldmodel.errors import ConfigError, DataError
from worldmodel.shards import ShardRecord, read_shards


def merge_prepared(out: Path) -> dict[str, Any]:
    """Put the files of all shards into `out`, as one run over all episodes writes them.

    The files are linked, which takes no space, or copied where the file system has no links.

    Returns:
        The summary of `out`.

    Raises:
        DataError: A shard is missing, unfinished, there twice or damaged.
        ConfigError: The shards are not of one run, or `out` holds shards of another plan.
    """
    shards = read_shards(out)
    made_by = shards[0][1].made_by
    path = shards[0][0] / PLAN
    plan = read_plan(path) if path.is_file() else {}
    if digest_of(plan) != made_by["plan"]:
        raise DataError(f"{path} is missing or was changed: run that shard again")
    if (out / PLAN).is_file() and read_plan(out / PLAN) != plan:
        raise ConfigError(f"{out} holds shards of another plan: use another out= for the shards")
    files = _check_files(shards)
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        link_or_copy(file, out / file.name)
        link_or_copy(file.with_suffix(HASH), (out / file.name).with_suffix(HASH))
    write_json(out / PLAN, plan, indent=None)
    counts = ("made", "frames")
    made, frames = (sum(int(record.result[key]) for _, record in shards) for key in counts)
    summary = summarise(plan, [out / file.name for file in files], made, frames)
    write_json(out / SUMMARY, summary)
    return summary


def _check_files(shards: list[tuple[Path, ShardRecord]]) -> list[Path]:
    """Return the files of all shards by number; each has the size and hash of its record."""
    files = {}
    for folder, record in shards:
        for name, stamp in record.result["stamps"].items():
            file = files[name] = folder / name
            if not file.is_file() or [file.stat().st_size, stored_hash(file)] != stamp:
                raise DataError(f"{file} is missing or damaged: run its shard again")
    expected = [
        f"shard-{number:06d}.safetensors" for number in range(shards[0][1].made_by["files"])
    ]
    if sorted(files) != expected:
        missing = ", ".join(sorted(set(expected) - set(files))[:5])
        raise DataError(f"The shards lack {missing}: run them again")
    return [files[name] for name in expected]
