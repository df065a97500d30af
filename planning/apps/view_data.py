"""Show a data set: its cameras, its states, and its actions integrated beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from planning.report.data_page import EpisodeData, write_data_page
from worldmodel.data.action_check import actions_of, check_actions, integrate
from worldmodel.data.dataset import open_row
from worldmodel.data.episode import Episode, EpisodeError
from worldmodel.data.index import Manifest, build_index, open_manifest
from worldmodel.data.index_files import MANIFEST
from worldmodel.data.inspection import IndexOptions
from worldmodel.errors import ConfigError

PICTURES = 6
"""Number of frames shown of each camera."""
MAX_SIDE_PX = 320
SHOWN = ("root", "layout", "accepted", "rejected", "reasons", "notes", "hours", "map", "map_from")
"""Entries of the index's summary on the page."""


def open_data(root: str, index: Path, options: IndexOptions, workers: int) -> Manifest:
    """Open an index, or index a data set into the folder `index`.

    Raises:
        DataError: There is no usable episode.
        ConfigError: The map of columns is missing or does not fit, or an index has its own.
    """
    if (Path(root) / MANIFEST).is_file():
        if not options.read.columns.is_droid:
            raise ConfigError(
                f"{options.read.columns.words()} has no effect: {root} is an index with a map of "
                "its own. Leave it out, or give the folder of the episodes"
            )
        return open_manifest(Path(root))
    build_index(Path(root), index, options, workers=workers)
    return open_manifest(index)


def view_data(manifest: Manifest, page: Path, count: int) -> list[tuple[str, bool | None]]:
    """Write the page of a data set.

    Args:
        manifest: Accepted episodes.
        page: Output file.
        count: Number of episodes to show, evenly spaced over the data set.

    Returns:
        Sentences of the verdict, each with whether it is good (None: a mere fact).

    Raises:
        DataError: An episode changed since it was indexed.
    """
    chosen = np.unique(np.linspace(0, len(manifest.rows) - 1, count).round().astype(int))
    rows = [manifest.rows[int(i)] for i in chosen]
    episodes = [open_row(manifest, row, all_cameras=True) for row in rows]
    findings = [(finding.text, finding.good) for finding in check_actions(episodes)]
    shown = [_shown(episode, row) for episode, row in zip(episodes, rows, strict=True)]
    facts = {name: manifest.summary[name] for name in SHOWN if name in manifest.summary}
    facts["shown"] = f"{len(rows)} of {len(manifest.rows)} episodes"
    write_data_page(page, f"Data set {manifest.root.name}", facts, findings, shown)
    return findings


def _shown(episode: Episode, row: Mapping[str, Any]) -> EpisodeData:
    task = f", task: {episode.task}" if episode.task else ""
    outcome = {None: "", True: ", success", False: ", failure"}[episode.success]
    return EpisodeData(
        name=str(row["id"]),
        facts=f"{len(episode)} steps, {(len(episode) - 1) / episode.seconds:.3g} Hz{outcome}{task}",
        times_s=episode.times_s,
        states_TS=episode.states_TS,
        integrated_TS=integrate(episode.states_TS, actions_of(episode)),
        cameras={name: _frames(episode, name, row["steps"]) for name in episode.cameras},
    )


def _frames(episode: Episode, name: str, count: int) -> list[tuple[float, NDArray[np.uint8]]]:
    """Return time and frame of a few steps; none if this camera has no usable recording."""
    steps = np.unique(np.linspace(0, count - 1, PICTURES).round().astype(np.int64))
    try:
        frames = episode.camera(name).frames.read(steps)
    except EpisodeError:
        return []
    times = episode.times_s[steps]
    return [(float(t), _small(frame)) for t, frame in zip(times, frames, strict=True)]


def _small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(frame)
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    return np.asarray(image)
