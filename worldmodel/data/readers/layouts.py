"""Detect the layout of a data set and split it into units of work.

A unit is read by one worker: an episode's folder (raw DROID), a TFRecord shard (RLDS) or an
episode's rows (LeRobot). It yields one outcome per episode.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from worldmodel.atomic_io import is_temporary
from worldmodel.data.episode import Episode, EpisodeError, rejecting
from worldmodel.data.files import Links, list_files
from worldmodel.data.readers import droid
from worldmodel.data.readers.options import ReadOptions
from worldmodel.errors import DataError

Outcome = tuple[int, Episode | EpisodeError]
EXTRAS = {"lerobot": "pyarrow", "rlds": "tensorflow_datasets"}
"""Module required by each layout; the layout's name is also the name of the extra."""


@dataclass(frozen=True)
class Unit:
    """A part of a data set that one worker reads."""

    layout: str
    """Layout: `droid`, `rlds` or `lerobot`."""
    root: Path
    """Folder of the data set."""
    path: str
    """Path of the unit, relative to `root`."""
    record: int = 0
    """Number of the episode; 0 except in LeRobot data sets."""

    @property
    def key(self) -> str:
        """Return the unit's name in manifests."""
        return f"{self.path}#{self.record}"


def detect_layout(root: Path) -> str:
    """Return the layout of a folder: `lerobot`, `rlds` or `droid`.

    Raises:
        DataError: The folder does not exist.
    """
    if not root.is_dir():
        raise DataError(
            f"Folder {root} does not exist: give the folder of the episodes (root= of `worldmodel "
            "data index`, data= and val= of `worldmodel train`)"
        )
    if (root / "meta" / "info.json").is_file():
        return "lerobot"
    if (root / "features.json").is_file() or any(root.glob("*.tfrecord*")):
        return "rlds"
    return "droid"


@cache
def require_extra(layout: str) -> None:
    """Check that the package required by a layout is installed.

    Raises:
        DataError: The package is missing; the message has the pip command.
    """
    module = EXTRAS.get(layout)
    try:
        is_there = module is None or find_spec(module) is not None
    except ImportError:
        is_there = False
    if not is_there:
        raise DataError(
            f"Reading the {layout} layout needs the package {module}, which is not installed: "
            f"pip install 'worldmodel[{layout}]'"
        )


def find_units(root: Path, links: Links = "inside") -> list[Unit]:
    """Return all units under `root` in a fixed order; see `ReadOptions.links`.

    Raises:
        DataError: The folder does not exist, or the package required by its layout is missing.
    """
    layout = detect_layout(root)
    require_extra(layout)
    if layout == "rlds":
        shards = sorted(p for p in root.glob("*.tfrecord*") if not is_temporary(p))
        return [Unit(layout, root, p.name) for p in shards]
    if layout == "lerobot":
        from worldmodel.data.readers import lerobot

        numbers = lerobot.episode_numbers(root, links)
        return [Unit(layout, root, "meta/info.json", number) for number in numbers]
    return [Unit(layout, root, str(p.relative_to(root))) for p in droid.find_episodes(root)]


def fingerprint(unit: Unit, links: Links = "inside") -> str:
    """Return a hash of all that a unit is read from: names, sizes and times of its files.

    It includes the descriptions of the whole data set, and folders behind links.
    """
    files, facts = _sources(unit, links)
    stamps = repr([_stamp(p) for p in files]) + facts
    return hashlib.sha256(stamps.encode(errors="backslashreplace")).hexdigest()[:16]


def content_stamp(unit: Unit, links: Links = "inside") -> str:
    """Return the same hash with paths relative to the root, so that a moved data set keeps it."""
    files, facts = _sources(unit, links)
    stamps = [(os.path.relpath(name, unit.root), *rest) for name, *rest in map(_stamp, files)]
    text = repr(stamps) + facts
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def _sources(unit: Unit, links: Links) -> tuple[list[Path], str]:
    """Return the files that a unit is read from, and what a list says about it."""
    path, facts = unit.root / unit.path, ""
    if unit.layout == "lerobot":
        from worldmodel.data.readers import lerobot

        files = lerobot.episode_files(unit.root, unit.record, links)
        facts = lerobot.episode_facts(unit.root, unit.record, links)
    elif unit.layout == "rlds":
        files = [path, unit.root / "features.json"]
    else:
        files = list_files(path)
    return files, facts


def _stamp(path: Path) -> tuple[str, int, int]:
    """Return a file's path, size and modification time; zeros if it is missing."""
    try:
        facts = path.stat()
    except (OSError, ValueError):  # missing, or a name that no file can have
        return (str(path), 0, 0)
    return (str(path), facts.st_size, facts.st_mtime_ns)


def read_unit(unit: Unit, options: ReadOptions) -> Iterator[Outcome]:
    """Yield each episode of a unit with its number, or the reason why it is unusable."""
    if unit.layout == "rlds":
        from worldmodel.data.readers import rlds

        yield from rlds.read_shard(unit.root / unit.path, options)
        return
    try:
        yield unit.record, read_one(unit, options)
    except EpisodeError as error:
        yield unit.record, error


def read_one(unit: Unit, options: ReadOptions) -> Episode:
    """Read one episode; in an RLDS shard, `unit.record` is its number.

    Raises:
        EpisodeError: The episode is unusable; the error holds the reason.
    """
    require_extra(unit.layout)
    with rejecting(unit.key):
        if unit.layout == "droid":
            return droid.read_droid(unit.root / unit.path, options, unit.root)
        if unit.layout == "lerobot":
            from worldmodel.data.readers import lerobot

            return lerobot.read_lerobot(unit.root, unit.record, options)
        from worldmodel.data.readers import rlds

        return rlds.read_record(unit.root / unit.path, unit.record, options)


def check_description(root: Path, links: Links) -> None:
    """Check that the description of a whole data set can be read, before any episode is.

    Raises:
        DataError: It cannot; the message names the file.
    """
    if detect_layout(root) == "rlds":
        from worldmodel.data.readers import rlds_features

        rlds_features.describe(root, links)
