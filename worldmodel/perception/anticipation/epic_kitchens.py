"""Read EPIC-KITCHENS-100's annotations and select the frames before each action.

Source: Damen et al., EPIC-KITCHENS-100 (arXiv 2006.13256); V-JEPA 2 (arXiv 2506.09985), sec. 6.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError, DataError
from worldmodel.perception.tables import Row, read_rows

COLUMNS = ("video_id", "start_frame", "stop_frame", "verb_class", "noun_class")


@dataclass(frozen=True, slots=True)
class Action:
    """An annotated action."""

    video: str
    """Name of the video, for example `P01_01`."""
    start: int
    """Index of the action's first frame."""
    stop: int
    """Index of the action's last frame."""
    verb: int
    """Class id of the verb in the annotations."""
    noun: int
    """Class id of the noun in the annotations."""


@dataclass(frozen=True)
class ActionClasses:
    """Class ids in the order of a classifier's outputs."""

    verbs: tuple[int, ...]
    nouns: tuple[int, ...]
    actions: tuple[tuple[int, int], ...]
    """Verb and noun of each action."""

    def labels(self, action: Action) -> tuple[int, int, int]:
        """Return the output indices of an action's verb, noun and (verb, noun) pair.

        Raises:
            DataError: The pair does not occur in the training annotations.
        """
        verbs, nouns, actions = self._indices
        pair = (action.verb, action.noun)
        if pair not in actions:
            raise DataError(
                f"verb {pair[0]} with noun {pair[1]} is not in the training annotations"
            )
        return verbs[action.verb], nouns[action.noun], actions[pair]

    @cached_property
    def _indices(self) -> tuple[dict[int, int], dict[int, int], dict[tuple[int, int], int]]:
        verbs, nouns = ({n: i for i, n in enumerate(ids)} for ids in (self.verbs, self.nouns))
        return verbs, nouns, {pair: i for i, pair in enumerate(self.actions)}


def read_actions(path: Path, rejected: dict[str, str] | None = None) -> list[Action]:
    """Read `EPIC_100_train.csv` or `EPIC_100_validation.csv`, in the order of the file.

    Args:
        path: The file.
        rejected: Takes the rows that are malformed or repeat a `narration_id` (`FILE:ROW`, the
            first is 1) with the reason; without it, such a row is an error.

    Raises:
        DataError: The file is missing, lacks a column, or a row cannot be used (none can, with
            `rejected`).
    """
    found = []
    reasons: dict[str, str] = {}
    rows: dict[str, int] = {}
    for number, row in enumerate(read_rows(path, COLUMNS), 1):
        try:
            name = row.get("narration_id", "")
            if name and rows.setdefault(name, number) != number:
                raise DataError(
                    f"{path}, row {number}: {name[:200]} is in row {rows[name]} as well"
                )
            found.append(_action(path, number, row))
        except DataError as error:
            if rejected is None:
                raise
            reasons[f"{path.name}:{number}"] = str(error)
    if reasons and not found:
        raise DataError(f"no row of {path} can be used; the first: {next(iter(reasons.values()))}")
    if rejected is not None:
        rejected |= reasons
    return found


def _action(path: Path, number: int, row: Row) -> Action:
    try:
        start, stop, verb, noun = (int(row[name]) for name in COLUMNS[1:])
    except ValueError as error:
        raise DataError(
            f"{path}, row {number}: {', '.join(COLUMNS[1:])} must be integers"
        ) from error
    if not 0 <= start <= stop:
        raise DataError(f"{path}, row {number}: the action has frames {start} to {stop}")
    return Action(row["video_id"], start, stop, verb, noun)


def class_order(train: Iterable[Action]) -> ActionClasses:
    """Return the classes in the order of the released probes' outputs.

    The released order is that of Python sets: pairs are inserted in the order of the training
    annotations, verbs and nouns while iterating over the set of pairs. Hashes of integers do not
    change between processes; the order is that of 64-bit CPython 3.8 and later.
    """
    actions = tuple({(action.verb, action.noun) for action in train})
    return ActionClasses(tuple({v for v, _ in actions}), tuple({n for _, n in actions}), actions)


def known_actions(actions: Iterable[Action], classes: ActionClasses) -> list[Action]:
    """Return the actions whose (verb, noun) pair is among the classes.

    Videos come in the order of their first action, and the actions of a video by start frame.
    """
    pairs = set(classes.actions)
    by_video: dict[str, list[Action]] = {}
    for action in actions:
        if (action.verb, action.noun) in pairs:
            by_video.setdefault(action.video, []).append(action)
    return [a for rows in by_video.values() for a in sorted(rows, key=lambda row: row.start)]


@dataclass(frozen=True, kw_only=True)
class AnticipationClip(Checked):
    """Sampling of the frames before an action."""

    num_frames: int = field(default=32, metadata=between(1, 4096))
    """Number of frames of a clip."""
    fps: float = field(default=8.0, metadata=between(1e-3, 1000))
    """Frame rate to which the clip is subsampled [Hz]."""
    seconds: tuple[float, float] = field(default=(1.0, 1.0), metadata=between(0, 3600))
    """Range of the gap between the clip's end and the anchor [s]; published training: .25 to
    1.75."""
    anchor: tuple[float, float] | None = field(default=None, metadata=between(0, 1))
    """Range of the anchor's place, 1: the action's start, 0: its stop; published training: 0 to
    0.25. None takes 1, the benchmark's task, or 0 with `as_released`."""
    as_released: bool = False
    """Whether to anchor at the action's stop, so that a clip may show the action itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, limits in (("seconds", self.seconds), ("anchor", self.place)):
            if limits[0] > limits[1]:
                raise ConfigError(f"{name}={limits}; allowed: low <= high")

    @property
    def place(self) -> tuple[float, float]:
        """Range of the anchor's place between the action's stop (0) and start (1)."""
        return self.anchor or ((0.0, 0.0) if self.as_released else (1.0, 1.0))

    def draw(self, generator: random.Random) -> tuple[float, float]:
        """Draw the gap [s] and the place of the anchor."""
        return generator.uniform(*self.seconds), generator.uniform(*self.place)

    def frames(
        self, action: Action, video_fps: float, seconds: float, place: float
    ) -> NDArray[np.int64]:
        """Return the increasing frame indices [num_frames] of a clip, clamped to 0.

        Args:
            action: The action to anticipate.
            video_fps: Frame rate of the video [Hz].
            seconds: Gap between the clip's end and the anchor [s].
            place: Place of the anchor between the action's stop (0) and start (1).

        Raises:
            ConfigError: The video's frame rate is below the clip's.
        """
        step = int(video_fps / self.fps)
        if step < 1:
            raise ConfigError(f"fps={self.fps:g}; allowed: at most the video's {video_fps:g}")
        point = action.start * place + (1 - place) * action.stop
        end = int(point - int(seconds * video_fps))
        return np.maximum(np.arange(end - self.num_frames * step, end, step), 0)
