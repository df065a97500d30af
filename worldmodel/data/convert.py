"""Write indexed episodes of any layout as a LeRobot data set.

Shapes: T control steps, S state (7), A action (7).
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.actions import apply_action
from worldmodel.data.cache import code_digest, digest_of
from worldmodel.data.convert_output import UNFINISHED, move_in, require_new, set_folder
from worldmodel.data.dataset import open_row
from worldmodel.data.episode import (
    Array,
    Episode,
    EpisodeError,
    check_states,
    check_times,
    rejecting,
)
from worldmodel.data.index import Manifest
from worldmodel.data.kept_videos import KeptVideos
from worldmodel.data.readers.layouts import Unit, content_stamp, require_extra
from worldmodel.data.sampling import sequences
from worldmodel.data.writers.lerobot_video import video_path
from worldmodel.errors import DataError
from worldmodel.kept_results import KeptResults

if TYPE_CHECKING:
    from worldmodel.data.writers.lerobot import LeRobotWriter

log = logging.getLogger(__name__)


def convert(
    manifest: Manifest, out: Path, *, fps: int = 0, replace: bool = False
) -> dict[str, Any]:
    """Write all episodes of a manifest into a new folder.

    Every gap-free part of a recording becomes an episode, at a constant rate.

    Args:
        manifest: Accepted episodes.
        out: Folder of the new data set, which must be empty or missing unless `replace`.
        fps: Frame rate [Hz] to which faster recordings are subsampled; 0 for the first episode's.
        replace: Whether to replace a LeRobot data set in `out`.

    Returns:
        Numbers of episodes and frames, and the frame rate.

    Raises:
        ConfigError: `out` is not empty.
        DataError: An episode is slower than `fps`, changed, or differs in its columns.
    """
    require_extra("lerobot")
    if not replace:
        require_new(out)
    fps = fps or _rate(open_row(manifest, manifest.rows[0]))
    links = manifest.summary.get("links", "inside")

    def read() -> Iterator[_Recording]:
        for row in manifest.rows:
            unit = Unit(row["layout"], manifest.root, row["path"], row["record"])
            source = digest_of([row, content_stamp(unit, links), manifest.summary.get("map")])
            episode = open_row(manifest, row, all_cameras=True)
            yield _Recording(row["path"], episode, row["steps"], source)

    made_by = {"fps": fps, "code": code_digest()}
    with KeptResults(out / UNFINISHED / "videos.jsonl", made_by) as results:
        found = _convert(read(), len(manifest.rows), out, fps, KeptVideos(results))
    shutil.rmtree(out / UNFINISHED)
    return found


def convert_episodes(
    episodes: Iterable[Episode], out: Path, *, fps: int = 0, max_reject_fraction: float = 0.5
) -> dict[str, Any]:
    """Write episodes of the user's reader into a new folder; see `convert`.

    Args:
        episodes: Episodes, read one after another.
        out: Folder of the new data set, which must be empty or missing.
        fps: Frame rate [Hz]; 0 for the first episode's.
        max_reject_fraction: Maximum fraction of episodes that have implausible states or times, or
            too few frames, and are left out.

    Returns:
        As `convert`, and the reasons of the `rejected` episodes.

    Raises:
        ConfigError: `out` is not empty.
        DataError: There is no usable episode, or too many are rejected.
    """
    require_extra("lerobot")
    require_new(out)
    rejected: dict[str, str] = {}
    usable = _usable(episodes, rejected, max_reject_fraction)
    first = next(usable, None)
    if first is None:
        raise DataError("The reader yields no episode: check root=")
    read = (_Recording(x.id, x, len(x)) for x in itertools.chain([first], usable))
    try:
        with KeptResults(None, {}) as results:
            found = _convert(read, None, out, fps or _rate(first), KeptVideos(results))
    finally:  # a reader's episodes may be others at the next start
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    return found | {"rejected": rejected}


def _usable(
    episodes: Iterable[Episode], rejected: dict[str, str], max_reject_fraction: float
) -> Iterator[Episode]:
    """Yield the usable episodes; note the others, and check their fraction at the end.

    Raises:
        DataError: Too many are rejected; the message has the first reason.
    """
    count = 0
    for count, episode in enumerate(episodes, start=1):
        try:
            yield _checked(episode)
        except DataError as error:
            name = str(getattr(episode, "id", f"number {count}"))
            rejected[name] = str(error)
            log.warning("%s", error)
    if len(rejected) > max_reject_fraction * count:
        raise DataError(
            f"{len(rejected)} of {count} episodes cannot be used "
            f"(allowed: max_reject_fraction={max_reject_fraction}); the first: "
            f"{next(iter(rejected.values()))}"
        )


def _checked(episode: Episode) -> Episode:
    """Check an episode of a user's reader, which no index has seen.

    Raises:
        DataError: It is unusable; the message names it.
    """
    if not isinstance(episode, Episode):
        raise DataError(f"The reader yields a {type(episode).__name__}; it must yield Episodes")
    try:
        with rejecting(str(episode.id)):
            _check(episode)
    except EpisodeError as error:
        raise DataError(f"Episode {episode.id} cannot be used: {error}") from error
    return episode


def _check(episode: Episode) -> None:
    """Check states, times and the numbers of frames.

    Raises:
        EpisodeError: They are implausible, or do not fit.
    """
    check_states(episode.states_TS)
    check_times(episode.times_s)
    if len(episode.times_s) != len(episode):
        raise EpisodeError("lengths_differ", f"{len(episode.times_s)} times, {len(episode)} states")
    for camera in episode.cameras.values():
        if len(camera.frames) < len(episode):
            text = f"{len(camera.frames)} of camera {camera.name}; {len(episode)} states"
            raise EpisodeError("frames_missing", text)


@dataclass(frozen=True)
class _Recording:
    """A recording that becomes one or more episodes."""

    name: str
    episode: Episode
    count: int
    """Number of usable steps."""
    source: str = ""
    """Hash of all that the episodes are read from; empty if that is unknown."""


def _convert(
    recordings: Iterable[_Recording], count: int | None, out: Path, rate: int, kept: KeptVideos
) -> dict[str, Any]:
    """Write recordings into `out`; videos that are kept are not encoded again."""
    from worldmodel.data.writers.lerobot import LeRobotWriter

    part = set_folder(out)
    for name in ("data", "meta"):
        shutil.rmtree(part / name, ignore_errors=True)
    writer = LeRobotWriter(part, fps=rate)
    videos: set[Path] = set()
    for recording in tqdm(recordings, total=count, desc="converting", unit="episode"):
        videos |= _add(writer, recording, rate, kept)
    writer.close()
    for file in part.glob("videos/*/*/*"):
        if file not in videos:  # of a stopped run with other episodes
            file.unlink()
    move_in(out)
    return {"episodes": len(writer.rows), "frames": writer.steps, "fps": rate, "out": str(out)}


def _rate(episode: Episode) -> int:
    """Return an episode's frame rate as a whole number, at least 1 [Hz]."""
    return max(1, round((len(episode) - 1) / episode.seconds))


def _add(writer: LeRobotWriter, recording: _Recording, rate: int, kept: KeptVideos) -> set[Path]:
    """Write the episodes of a recording; return the files of their videos."""
    from worldmodel.data.writers.lerobot import LeRobotEpisode

    episode, written = recording.episode, set[Path]()
    try:
        for part, steps in enumerate(sequences(episode.times_s[: recording.count], rate)):
            number = len(writer.rows)
            files = {view: video_path(writer.root, view, number) for view in episode.cameras}
            source = recording.source and f"{recording.source}-{part}"
            known = kept.get(number, source, files)
            videos = writer.add(
                LeRobotEpisode(
                    states_TS=episode.states_TS[steps],
                    targets_TS=commanded(episode, steps),
                    frames={}
                    if known
                    else {view: c.frames.read(steps) for view, c in episode.cameras.items()},
                    task=episode.task,
                    joints_TJ=None if episode.joints_TJ is None else episode.joints_TJ[steps],
                    extrinsics=_extrinsics(episode, steps),
                    success=episode.success,
                ),
                known,
            )
            if not known:
                kept.add(number, source, files, videos)
            written |= set(files.values())
    except EpisodeError as error:
        raise DataError(f"Episode {recording.name} cannot be written: {error}") from error
    return written


def _extrinsics(episode: Episode, steps: NDArray[np.int64]) -> dict[str, Array]:
    """Return the camera poses that were recorded, by camera."""
    found = {}
    for name in episode.cameras:
        try:
            found[name] = episode.extrinsics(name)[steps]
        except EpisodeError:
            continue
    return found


def commanded(episode: Episode, steps: NDArray[np.int64]) -> Array:
    """Return the commanded states [len(steps), S].

    They are the recorded targets, those that the recorded actions imply, or else the next states.
    The last step keeps its state where nothing tells.
    """
    states_TS = episode.states_TS[steps]
    found = np.concatenate([states_TS[1:], states_TS[-1:]])
    if episode.targets_TS is not None:
        last = np.append(steps[1:] - 1, steps[-1])
        return episode.targets_TS[last]
    if episode.actions_TA is not None and (np.diff(steps) == 1).all():
        moves = episode.actions_TA[steps].copy()
        command, moves[:, 6] = moves[:, 6].copy(), 0.0  # -1 open, 0 keep, 1 close
        found = apply_action(torch.from_numpy(states_TS), torch.from_numpy(moves)).numpy()
        found[:, 6] = np.where(command == 0, states_TS[:, 6], (command > 0).astype(float))
    return found
