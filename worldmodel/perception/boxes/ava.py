"""Read AVA's files: class list, annotated boxes, excluded times and detected boxes.

Source: AVA (arXiv 1705.08421), version 2.2 as distributed: CSV files without a header, with boxes
as shares of the frame's width and height.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worldmodel.data.files import read_text
from worldmodel.errors import DataError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, from 0 to 1."""
Moment = tuple[str, float]
"""Video and time in it [s]."""
ENTRY = re.compile(r"(?:item|label)\s*\{([^}]*)\}")
NAME = re.compile(r'name:\s*"([^"]*)"|name:\s*\'([^\']*)\'')
NUMBER = re.compile(r"\b(?:id|label_id):\s*(\d{1,6})")


@dataclass(frozen=True)
class Keyframe:
    """A moment of a video and the boxes of people in it."""

    video: str
    time_s: float
    boxes: tuple[Box, ...]
    actions: tuple[frozenset[int], ...]
    """Class ids of each box."""

    @property
    def name(self) -> str:
        """Name under which the keyframe is rejected."""
        return f"{self.video} {self.time_s:.12g} s"


@dataclass(frozen=True)
class BoxFile:
    """Keyframes of a file, and the rows that are not used."""

    keyframes: tuple[Keyframe, ...]
    rejected: dict[str, str]
    """Line -> reason."""
    ignored: int
    """Number of rows of classes that are not in the class list."""


def read_classes(path: Path) -> dict[int, str]:
    """Read `ava_action_list_v2.2_for_activitynet_2019.pbtxt`: class id -> name.

    Raises:
        DataError: The file has no class, or one twice.
    """
    found: dict[int, str] = {}
    for entry in ENTRY.findall(read_text(path)):
        name, number = NAME.search(entry), NUMBER.search(entry)
        if name and number:
            if int(number[1]) in found:
                raise DataError(f"{path} lists class {number[1]} twice")
            found[int(number[1])] = name[1] or name[2] or ""
    if not found:
        raise DataError(
            f'{path} lists no class; expected entries like item {{ name: "walk" id: 14 }}'
        )
    return found


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        for number, row in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), 1):
            if row:
                yield number, [text.strip() for text in row]
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from error


def _moment(row: list[str]) -> Moment:
    return row[0], _number(row[1], "time", 0.0, 1e7)


def _number(text: str, name: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise DataError(f"{name} is {text[:50]!r}; allowed: {low:g} to {high:g}")
    return value


def _box(row: list[str]) -> Box:
    left, top, right, bottom = (_number(text, "box", 0.0, 1.0) for text in row[2:6])
    if left >= right or top >= bottom:
        raise DataError(f"the box {row[2:6]} is empty; order: left, top, right, bottom")
    return left, top, right, bottom


def read_boxes(path: Path, classes: dict[int, str], min_score: float | None = None) -> BoxFile:
    """Read annotated or detected boxes; rows of one box at one moment are joined.

    Args:
        path: Rows `video, time, left, top, right, bottom, action, person` of annotations, or
            `..., action, score` of detections. The action may be empty.
        classes: Class ids that are used; rows of others are counted.
        min_score: Least score of a detection; None reads annotations.

    Raises:
        DataError: The file cannot be read, or holds no usable row.
    """
    found: dict[Moment, dict[Box, set[int]]] = {}
    rejected: dict[str, str] = {}
    ignored = 0
    for line, row in _rows(path):
        try:
            if len(row) < 7:
                raise DataError(f"it has {len(row)} fields; needed: at least 7")
            box, moment, action = _box(row), _moment(row), _action(row[6])
            if min_score is not None and _score(row) < min_score:
                continue
        except DataError as error:
            rejected[f"{path.name}:{line}"] = str(error)
            continue
        if action is not None and action not in classes and min_score is None:
            ignored += 1
            continue
        own = found.setdefault(moment, {}).setdefault(box, set())
        own.update({action} if action is not None and action in classes else set())
    if not found:
        first = next(iter(rejected.values()), "no row is left")
        raise DataError(f"{path} has no usable row; the first reason: {first}")
    keyframes = tuple(
        Keyframe(video, time_s, tuple(boxes), tuple(frozenset(a) for a in boxes.values()))
        for (video, time_s), boxes in found.items()
    )
    return BoxFile(keyframes, rejected, ignored)


def _action(text: str) -> int | None:
    if not text or text == "-1":
        return None
    number = _number(text, "action", -1, 10**6)
    if number != int(number):
        raise DataError(f"action is {text[:50]!r}; allowed: a class number")
    return int(number)


def _score(row: list[str]) -> float:
    if len(row) < 8:
        raise DataError("the detection has no score, which is the eighth field")
    return _number(row[7], "score", -1e9, 1e9)


def read_excluded(path: Path) -> set[Moment]:
    """Read moments that are not judged: rows `video, time`.

    Raises:
        DataError: The file cannot be read, or a row is wrong.
    """
    found = set()
    for line, row in _rows(path):
        if len(row) < 2:
            raise DataError(f"{path}, line {line}: needed are a video and a time")
        try:
            found.add(_moment(row))
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error}") from error
    return found
