"""Read sets of possible and impossible videos: IntPhys, GRASP, InfLevel and IntPhys 2.

Folders are read in their published layout. The pair of a missing or damaged video is listed with
its reason in `PairSet.rejected` and never replaced by another.

| set | files |
|---|---|
| IntPhys 2019 | `dev/O1/01/1/scene/scene_001.png ...`, `dev/O1/01/1/status.json` |
| GRASP level 2 | `level2/P_Gravity/0.mp4` (possible), `level2/IP_Gravity/0.mp4` |
| InfLevel | videos, and a CSV of pairs with columns `vid1_path`, `vid1_end_priming_2`, ... |
| IntPhys 2 | `Main/metadata.csv` and the videos that it names |
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from worldmodel.data.episode import rejecting
from worldmodel.data.files import read_json
from worldmodel.data.video import inspect_video
from worldmodel.errors import DataError
from worldmodel.perception.surprise.pair_videos import Video, match_scene
from worldmodel.perception.tables import Row, read_rows

log = logging.getLogger(__name__)
DIFFICULTY = {
    "BasicLevel_0": "easy",
    **dict.fromkeys(("SaltFlats_0", "DesertMap_0", "RaceTrack_0", "TropicalIsland_0"), "medium"),
}
"""IntPhys 2's `env` -> difficulty; all others are hard."""
FIXED_CAMERA = {
    "FixedMarryPoppins",
    "FixedJumpSolidity",
    "RotatingCup",
    "HotAirBallon",
    "SphereFallingDown",
    "SolidityFallingFlat",
}
"""IntPhys 2's `game_name` of scenes with a static camera."""


@dataclass(frozen=True)
class Pair:
    """A possible video and the impossible one that differs from it in one event."""

    name: str
    possible: Video
    impossible: Video
    group: str
    """Property that the pair tests."""
    tags: dict[str, str] = field(default_factory=dict)
    """Subsets of the pair, for example by difficulty."""


@dataclass(frozen=True)
class PairSet:
    """Pairs of a set, and the unreadable items."""

    pairs: list[Pair]
    rejected: dict[str, str]
    """Pair or scene -> reason."""


def _collect(
    items: Iterable[tuple[str, Callable[[], list[Pair]]]], where: Path, needed: str
) -> PairSet:
    """Collect the pairs of each item; record unreadable items with their reasons."""
    pairs: list[Pair] = []
    rejected: dict[str, str] = {}
    for name, make in items:
        try:
            with rejecting(name):
                pairs += make()
        except DataError as error:
            log.warning("%s: %s", name, error)
            rejected[name] = str(error)
    if not pairs:
        reason = next(iter(rejected.values()), f"needed: {needed}")
        raise DataError(f"{where} has no pair of videos ({reason})")
    return PairSet(pairs, rejected)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"there is no {path}")
    return path


def read_intphys(root: Path, *, as_released: bool = False) -> PairSet:
    """Read IntPhys 2019's labelled scenes below `dev`.

    Args:
        root: Folder with `dev`.
        as_released: Match the videos of a scene by the released rule (see `breaking_point`).

    Raises:
        DataError: No scene can be read.
    """
    scenes = sorted(p for p in (root / "dev").glob("O[123]/*") if p.is_dir())
    items = (
        (s.relative_to(root).as_posix(), partial(_intphys_scene, s, as_released)) for s in scenes
    )
    return _collect(items, root, "dev/O1/SCENE/1/scene/scene_001.png")


def _intphys_scene(scene: Path, as_released: bool) -> list[Pair]:
    folders = [_existing(scene / str(i)) for i in (1, 2, 3, 4)]
    videos = [Video(_existing(f / "scene"), whole_steps=True) for f in folders]
    labels = [_is_possible(f / "status.json") for f in folders]
    pairs = []
    matched = match_scene([v.frames() for v in videos], as_released=as_released)
    for number, (a, b) in enumerate(matched, start=1):
        if labels[a] == labels[b]:
            raise DataError(f"{scene}: videos {a + 1} and {b + 1} match and are equally possible")
        good, bad = (a, b) if labels[a] else (b, a)
        name = f"{scene.parent.name}/{scene.name}/{number}"
        pairs.append(Pair(name, videos[good], videos[bad], scene.parent.name))
    return pairs


def _is_possible(path: Path) -> bool:
    status = read_json(path, path.parent, links="all", reason="status_unreadable")
    header = status.get("header") if isinstance(status, dict) else None
    label = header.get("is_possible") if isinstance(header, dict) else None
    if not isinstance(label, bool):
        raise DataError(f"{path}: header.is_possible is {label!r}; needed: true or false")
    return label


def read_grasp(root: Path) -> PairSet:
    """Read GRASP's level 2; files with the same name in `P_X` and `IP_X` form a pair.

    Raises:
        DataError: No pair can be read.
    """
    videos = _mp4_files(root / "level2", "P_*")
    items = (
        (v.relative_to(root).as_posix(), partial(_grasp_pair, root, v))
        for v in [*videos, *_without_partner(root)]
    )
    return _collect(items, root, "level2/P_Gravity/0.mp4 and level2/IP_Gravity/0.mp4")


def _mp4_files(folder: Path, kind: str) -> list[Path]:
    return sorted(p for p in folder.glob(f"{kind}/*") if p.suffix.lower() == ".mp4")


def _without_partner(root: Path) -> Iterator[Path]:
    """Yield the names of missing possible videos of existing impossible ones."""
    for bad in _mp4_files(root / "level2", "IP_*"):
        good = bad.parent.with_name(bad.parent.name.removeprefix("I")) / bad.name
        if not good.exists():
            yield good


def _grasp_pair(root: Path, good: Path) -> list[Pair]:
    bad = root / "level2" / f"I{good.parent.name}" / good.name
    group = good.parent.name.removeprefix("P_")
    return [Pair(f"{group}/{good.stem}", Video(_existing(good)), Video(_existing(bad)), group)]


def read_inflevel(root: Path, pairs_csv: Path) -> PairSet:
    """Read pairs of InfLevel-lab; video 1 of a row is the possible one.

    Frames count from the end of the second priming part; the longer video of a pair is trimmed at
    its start.

    Args:
        root: Base folder of the paths in the CSV.
        pairs_csv: CSV of pairs, as published.

    Raises:
        DataError: The CSV cannot be read or has no pair.
    """
    rows = read_rows(
        pairs_csv, ("vid1_path", "vid2_path", "vid1_end_priming_2", "vid2_end_priming_2")
    )
    seen: dict[tuple[str, ...], int] = {}
    items = (
        (f"row {i}", partial(_new_inflevel_pair, root, row, i, seen))
        for i, row in enumerate(rows, 2)
    )
    return _collect(items, pairs_csv, "rows of pairs")


def _new_inflevel_pair(
    root: Path, row: Row, number: int, seen: dict[tuple[str, ...], int]
) -> list[Pair]:
    facts = tuple(row.values())
    if seen.setdefault(facts, number) != number:
        raise DataError(f"repeats row {seen[facts]}")
    return _inflevel_pair(root, row)


def _inflevel_pair(root: Path, row: Row) -> list[Pair]:
    videos, lengths = [], []
    for i in (1, 2):
        path, text = root / row[f"vid{i}_path"], row[f"vid{i}_end_priming_2"]
        try:
            first = int(float(text)) + 1
        except (ValueError, OverflowError) as error:
            raise DataError(f"vid{i}_end_priming_2={text!r} is not a number") from error
        if first < 0:
            raise DataError(f"vid{i}_end_priming_2={text!r}; allowed: -1 (no priming part) or more")
        videos.append(Video(path, first))
        lengths.append(inspect_video(path, decode=False).frames - first)
    if videos[0] == videos[1]:
        raise DataError(f"both videos are {videos[0].path}")
    if min(lengths) < 1:
        raise DataError(f"{videos[0].path} or {videos[1].path} ends before its priming part")
    good, bad = (
        Video(v.path, v.first + n - min(lengths)) for v, n in zip(videos, lengths, strict=True)
    )
    group = Path(row["vid1_path"]).parent.name
    return [Pair(f"{good.path.stem} / {bad.path.stem}", good, bad, group)]


def read_intphys2(root: Path) -> PairSet:
    """Read a labelled part of IntPhys 2 (`Main` or `Debug`) with its `metadata.csv`.

    Raises:
        DataError: The CSV cannot be read or has no pair.
    """
    table = root / "metadata.csv"
    by_pair: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in read_rows(table, ("SceneIndex", "type", "condition")):
        by_pair[row["SceneIndex"], row["type"].partition("_")[0]].append(row)
    items = (
        (f"scene {scene} pair {number}", partial(_intphys2_pair, root, f"{scene}/{number}", rows))
        for (scene, number), rows in by_pair.items()
    )
    return _collect(items, table, "rows of type 1_Possible and 1_Impossible")


def _intphys2_pair(root: Path, name: str, rows: list[Row]) -> list[Pair]:
    kinds = sorted(row["type"].partition("_")[2] for row in rows)
    if kinds != ["Impossible", "Possible"]:
        raise DataError(f"has videos of kinds {kinds}; needed: one Impossible, one Possible")
    bad, good = sorted(rows, key=lambda row: row["type"])
    if good["condition"] != bad["condition"]:
        raise DataError(f"its videos have conditions {good['condition']} and {bad['condition']}")
    videos = [Video(_intphys2_file(root, row)) for row in (good, bad)]
    if videos[0] == videos[1]:
        raise DataError(f"both videos are {videos[0].path}")
    tags = {
        "difficulty": DIFFICULTY.get(good.get("env", ""), "hard"),
        "camera": "fixed" if good.get("game_name") in FIXED_CAMERA else "moving",
    }
    return [Pair(name, videos[0], videos[1], good["condition"], tags)]


def _intphys2_file(root: Path, row: Row) -> Path:
    name = row.get("file_name") or row.get("filename") or row.get("name")
    if not name:
        raise DataError("a row names no file in file_name, filename or name")
    return _existing(root / name)
