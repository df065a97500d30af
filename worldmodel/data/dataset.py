"""Clips of indexed episodes, decoded when asked for; an error stops the run and names the episode.

Shapes: B clips, K frames, H W pixels, S state (7), A action (7).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from tqdm import tqdm

from worldmodel.data.episode import Episode, EpisodeError
from worldmodel.data.index import Manifest
from worldmodel.data.readers.droid import ReadOptions
from worldmodel.data.readers.layouts import Unit, read_one
from worldmodel.data.sampling import ClipOptions, find_clips, grid_steps, state_actions
from worldmodel.errors import DataError

Batch = dict[str, np.ndarray]
Transform = Callable[[Any], Any]


def open_row(manifest: Manifest, row: dict[str, Any]) -> Episode:
    """The episode of a manifest's row, cut to the steps that the index found whole.

    Raises:
        DataError: the files changed since the index was made.
    """
    unit = Unit(row["layout"], manifest.root, row["path"], row["record"])
    options = ReadOptions(camera=row["camera"], check_all_cameras=False, inspect=False)
    try:
        return read_one(unit, options)
    except EpisodeError as error:
        raise DataError(
            f"Episode {row['path']} was good when it was indexed and now is not: {error}. Run "
            "`worldmodel data index` again"
        ) from error


def check_extrinsics(episode: Episode, row: dict[str, Any]) -> None:
    """Refuse an episode without the poses of its camera.

    Raises:
        DataError: names the episode and the mend.
    """
    try:
        episode.extrinsics(row["camera"])
    except EpisodeError as error:
        raise DataError(
            f"Episode {row['path']}: {error}. Index again with extrinsics=required, which rejects "
            "such episodes, or train with extrinsics=false"
        ) from error


class RawClips:
    """Clips read from the episodes' own files."""

    def __init__(
        self, manifest: Manifest, options: ClipOptions, transform: Transform, *, workers: int = 2
    ) -> None:
        self.manifest, self.options, self.transform = manifest, options, transform
        self.pool = ThreadPoolExecutor(workers)
        self.open = lru_cache(maxsize=4096)(self._open)
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
        return open_row(self.manifest, self.manifest.rows[row])

    def _starts(self, row: int) -> np.ndarray:
        episode, steps = self.open(row), self.manifest.rows[row]["steps"]
        if self.options.extrinsics:
            check_extrinsics(episode, self.manifest.rows[row])
        return find_clips(episode.times_s[:steps], episode.moving_T[:steps], self.options)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.items)

    def clip(self, index: int) -> Batch:
        """Frames uint8 [K,H,W,3], states [K,7], actions [K-1,7], times [K], extrinsics [K,6]."""
        row, start = self.items[index]
        episode, facts = self.open(row), self.manifest.rows[row]
        steps = grid_steps(episode.times_s[: facts["steps"]], start, self.options)
        states_KS, actions_KA = state_actions(episode, steps, self.options.state_frame)
        try:
            frames = episode.camera(facts["camera"]).frames.read(steps)
        except EpisodeError as error:
            raise DataError(f"Episode {facts['path']}: {error}. Index the data again") from error
        out = {
            "frames": np.asarray(self.transform(frames)),
            "states": states_KS.astype(np.float32),
            "actions": actions_KA.astype(np.float32),
            "times_s": episode.times_s[steps],
        }
        if self.options.extrinsics:
            out["extrinsics"] = episode.extrinsics(facts["camera"])[steps].astype(np.float32)
        return out

    def batch(self, indices: np.ndarray) -> Batch:
        """A batch of clips, decoded side by side."""
        clips = list(self.pool.map(self.clip, (int(i) for i in indices)))
        return {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
