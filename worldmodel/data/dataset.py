"""Clips of indexed episodes, decoded on demand; errors are raised and name the episode.

Shapes: B clips, K frames, V views, H W pixels, S state (7), A action (7).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.cache import digest_of
from worldmodel.data.column_map import read_map
from worldmodel.data.episode import Episode, EpisodeError
from worldmodel.data.episode_cache import MAX_BYTES, EpisodeCache
from worldmodel.data.index import Manifest
from worldmodel.data.readers.layouts import Unit, content_stamp, read_one
from worldmodel.data.readers.options import CONTROL_HZ, ReadOptions
from worldmodel.data.sampling import ClipOptions, find_clips, grid_steps, state_actions
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import DataError

log = logging.getLogger(__name__)
Batch = dict[str, np.ndarray]


def open_row(
    manifest: Manifest, row: dict[str, Any], *, views: Sequence[str] = (), all_cameras: bool = False
) -> Episode:
    """Open the episode of a manifest row, with its camera, some views or all cameras.

    Raises:
        DataError: The files changed since the index was built, or a view is missing.
    """
    require_views(manifest, row, views)
    unit = Unit(row["layout"], manifest.root, row["path"], row["record"])
    options = ReadOptions(
        camera=row["camera"],
        views=tuple(views),
        check_all_cameras=all_cameras,
        inspect=False,
        links=manifest.summary.get("links", "inside"),
        rlds_fps=manifest.summary.get("rlds_fps", CONTROL_HZ),
        columns=read_map(manifest.summary.get("map")),
    )
    try:
        episode = read_one(unit, options)
        if len(episode) < row["steps"]:
            message = f"{len(episode)} steps; the index says {row['steps']}"
            raise EpisodeError("lengths_differ", message)
        return episode
    except EpisodeError as error:
        raise DataError(
            f"Episode {row['path']} was usable when it was indexed, and no longer is: {error}. "
            "Run `worldmodel data index` again"
        ) from error


def require_views(manifest: Manifest, row: dict[str, Any], views: Sequence[str]) -> None:
    """Check that the index lists all views of an episode.

    Raises:
        DataError: A view is not there; the message names the episode, its cameras and the fix.
    """
    known = {*row["cameras"], *row["cameras"].values()}
    missing = [view for view in views if view not in known]
    if missing:
        raise DataError(
            f"Episode {row['path']} of {manifest.root} has the cameras {sorted(row['cameras'])}, "
            f"and no {', '.join(missing)}: index again with views={','.join(views)}, which rejects "
            "such episodes"
        )


def read_views(
    episode: Episode, views: Sequence[str], steps: NDArray[np.int64], transform: Preprocess
) -> np.ndarray:
    """Return the frames of control steps, transformed: [K, H, W, 3], of several views [K, V, ...].

    Raises:
        EpisodeError: A view is missing, or its recording is damaged.
    """
    found = [
        transform(torch.from_numpy(episode.camera(view).frames.read(steps))).numpy()
        for view in views
    ]
    return found[0] if len(found) == 1 else np.stack(found, axis=1)


def check_extrinsics(episode: Episode, row: dict[str, Any]) -> None:
    """Check that an episode has its camera's poses.

    Raises:
        DataError: The poses are missing; the message names the episode and the fix.
    """
    try:
        episode.extrinsics(row["camera"])
    except EpisodeError as error:
        raise DataError(
            f"Episode {row['path']}: {error}. Index again with extrinsics=required, which rejects "
            "such episodes, or train with extrinsics=false"
        ) from error


def _unit_record(row: dict[str, Any]) -> int:
    """Return the number that names a row's unit: 0 for a shard, which holds many episodes."""
    return 0 if row["layout"] == "rlds" else int(row["record"])


class RawClips:
    """Clips decoded on demand from the original episode files.

    Args:
        manifest: Accepted episodes.
        options: Length, rate and content of the clips.
        transform: Image transform to the model's size.
        workers: Number of decoding threads.
        max_bytes: Maximum memory of the opened episodes that are kept [bytes].

    Raises:
        DataError: An episode changed since it was indexed, or none is long enough for a clip.
    """

    def __init__(
        self,
        manifest: Manifest,
        options: ClipOptions,
        transform: Preprocess,
        *,
        workers: int = 2,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.manifest, self.options, self.transform = manifest, options, transform
        self.pool = ThreadPoolExecutor(workers)
        self.open = EpisodeCache(self._open, max_bytes)
        log.info("up to %d MiB of opened episodes are kept in memory", max_bytes >> 20)
        self.items: list[tuple[int, float]] = []
        rows = range(len(manifest.rows))
        for row, starts in enumerate(
            tqdm(self.pool.map(self._starts, rows), total=len(rows), desc="clips", unit="episode")
        ):
            self.items += [(row, float(start)) for start in starts]
        if not self.items:
            raise DataError(
                f"No episode under {manifest.root} is long enough for {options.num_frames} frames "
                f"at {options.fps} fps ({options.span_s} s): lower num_frames or raise fps"
            )

    def _open(self, row: int) -> Episode:
        return open_row(self.manifest, self.manifest.rows[row], views=self.options.views)

    def _starts(self, row: int) -> np.ndarray:
        facts = self.manifest.rows[row]
        steps: int = facts["steps"]
        require_views(self.manifest, facts, self.options.views)
        if facts["layout"] == "rlds" and not self.options.extrinsics:
            # records hold no clock, so there is no reason to read them all
            times_s = np.arange(steps) / self.manifest.summary.get("rlds_fps", CONTROL_HZ)
            return find_clips(times_s, np.ones(steps, bool), self.options)
        episode = self.open(row)
        if self.options.extrinsics:
            check_extrinsics(episode, self.manifest.rows[row])
        return find_clips(episode.times_s[:steps], episode.moving_T[:steps], self.options)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.items)

    def content_hash(self) -> str:
        """Return a hash of the indexed episodes, and of sizes and times of all their files."""
        units = {
            Unit(row["layout"], self.manifest.root, row["path"], _unit_record(row))
            for row in self.manifest.rows
        }
        links = self.manifest.summary.get("links", "inside")
        stamps = sorted(self.pool.map(lambda unit: content_stamp(unit, links), units))
        names = ("path", "record", "steps", "camera")
        episodes = [[row[name] for name in names] for row in self.manifest.rows]
        return digest_of([episodes, stamps, *self.options.views])

    def clip(self, index: int) -> Batch:
        """Return one clip.

        Returns:
            `frames` uint8 [K,H,W,3], of several views [K,V,H,W,3], `states` float32 [K,S],
            `actions` float32 [K-1,A], `times_s` [K], and with the option `extrinsics` the camera's
            poses float32 [K,6].

        Raises:
            DataError: The episode changed since it was indexed.
        """
        row, start = self.items[index]
        episode, facts = self.open(row), self.manifest.rows[row]
        steps = grid_steps(episode.times_s[: facts["steps"]], start, self.options)
        states_KS, actions_KA = state_actions(episode, steps, self.options.state_frame)
        try:
            views = self.options.views or (facts["camera"],)
            frames = read_views(episode, views, steps, self.transform)
        except EpisodeError as error:
            raise DataError(f"Episode {facts['path']}: {error}. Index the data again") from error
        out = {
            "frames": frames,
            "states": states_KS.astype(np.float32),
            "actions": actions_KA.astype(np.float32),
            "times_s": episode.times_s[steps],
        }
        if self.options.extrinsics:
            out["extrinsics"] = episode.extrinsics(facts["camera"])[steps].astype(np.float32)
        return out

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the clips of some indices, stacked; they are decoded in parallel."""
        clips = list(self.pool.map(self.clip, (int(i) for i in indices)))
        return {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
