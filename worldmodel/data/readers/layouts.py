"""Which layout a folder has, and the pieces of it that are looked at one at a time.

A unit is what one worker reads at once: an episode's folder (raw DROID), a TFRecord shard (RLDS) or
an episode's rows (LeRobot). It yields one outcome per episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worldmodel.data.episode import Episode, EpisodeError
from worldmodel.data.readers import droid
from worldmodel.data.readers.droid import ReadOptions
from worldmodel.errors import DataError

Outcome = tuple[int, Episode | EpisodeError]


@dataclass(frozen=True)
class Unit:
    """One piece of a data set."""

    layout: str
    root: Path
    path: str
    """Relative to the root."""
    record: int = 0
    """LeRobot: the episode's number."""

    @property
    def key(self) -> str:
        """Name in manifests."""
        return f"{self.path}#{self.record}"


def detect_layout(root: Path) -> str:
    """`lerobot`, `rlds` or `droid`.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}: give root=DIR, the folder of the episodes")
    if (root / "meta" / "info.json").is_file():
        return "lerobot"
    if (root / "features.json").is_file() or any(root.glob("*.tfrecord*")):
        return "rlds"
    return "droid"


def find_units(root: Path) -> list[Unit]:
    """All pieces under `root`, in a fixed order."""
    layout = detect_layout(root)
    if layout == "rlds":
        return [Unit(layout, root, p.name) for p in sorted(root.glob("*.tfrecord*"))]
    if layout == "lerobot":
        from worldmodel.data.readers import lerobot

        return [Unit(layout, root, "meta/info.json", n) for n in lerobot.episode_numbers(root)]
    return [Unit(layout, root, str(p.relative_to(root))) for p in droid.find_episodes(root)]


def fingerprint(unit: Unit) -> str:
    """Changes when the unit's files do (names, sizes, times of change)."""
    path = unit.root / unit.path
    if unit.layout == "lerobot":
        from worldmodel.data.readers import lerobot

        files = lerobot.episode_files(unit.root, unit.record)
    else:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    facts = [
        (str(p), p.stat().st_size, p.stat().st_mtime_ns) if p.is_file() else (str(p), 0, 0)
        for p in files
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def read_unit(unit: Unit, options: ReadOptions) -> Iterator[Outcome]:
    """The episodes of a unit, or the reason why one cannot be used."""
    if unit.layout == "rlds":
        from worldmodel.data.readers import rlds

        yield from rlds.read_shard(unit.root / unit.path, options)
        return
    try:
        yield unit.record, read_one(unit, options)
    except EpisodeError as error:
        yield unit.record, error


def read_one(unit: Unit, options: ReadOptions) -> Episode:
    """One episode (`unit.record` counts within an RLDS shard).

    Raises:
        EpisodeError: with the reason.
    """
    if unit.layout == "droid":
        return droid.read_droid(unit.root / unit.path, options)
    if unit.layout == "lerobot":
        from worldmodel.data.readers import lerobot

        return lerobot.read_lerobot(unit.root, unit.record, options)
    from worldmodel.data.readers import rlds

    return rlds.read_record(unit.root / unit.path, unit.record, options)
