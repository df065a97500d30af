"""Decode short episodes once into flat arrays in the cache folder (`worldmodel.data.cache`).

Episodes of every layout are read through the same index, readers and image transform as for all
training; no episode is replaced by another. A folder holds `frames.npy` [F,H,W,3] (of several
views, [F,V,H,W,3]), `states.npy` [F,S], `actions.npy` [F,A], `objects.npy` [F,3] and `poses.npy`
[F,M,4] of all sequences concatenated, `starts.npy` with the first frame of each sequence, and
`facts.json`. Poses are x, y, z and yaw of each object; they come from simulators and serve
evaluation only.

Shapes: T control steps of an episode, F frames, V views, H W pixels, S state (7), A action (7), M
objects.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.atomic_io import write_json
from worldmodel.checked import Checked, between
from worldmodel.data.cache import cache_slot, cached_folder, code_digest, digest_of, locked
from worldmodel.data.data_root import find_root
from worldmodel.data.dataset import open_row, read_views
from worldmodel.data.episode import Array, Episode, EpisodeError
from worldmodel.data.files import Links
from worldmodel.data.growing_array import GrowingArray
from worldmodel.data.index import Manifest, build_index, open_manifest
from worldmodel.data.index_files import MANIFEST
from worldmodel.data.index_store import Row
from worldmodel.data.inspection import IndexOptions
from worldmodel.data.readers.layouts import find_units
from worldmodel.data.readers.options import CONTROL_HZ, ReadOptions
from worldmodel.data.sampling import sequences, state_actions
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import ConfigError, DataError
from worldmodel.processes import WorkerPool
from worldmodel.specs import Transform

log = logging.getLogger(__name__)
FIELDS = ("frames", "states", "actions", "objects", "poses")
"""Arrays of a folder."""
MAX_OBJECTS = 3
"""Objects of a frame in `poses`; NaN beyond those of the scene."""
FPS = 4.0
"""Frame rate to which faster recordings are subsampled, by their timestamps [Hz]."""
MAX_REJECT_FRACTION = 0.5


@dataclass(frozen=True, kw_only=True)
class DecodeOptions(Checked):
    """Options of the decoded arrays."""

    image_size: int = field(metadata=between(1, 4096, "px"))
    """Height and width of the frames [px]."""
    transform: Transform = "droid"
    """Kind of the image transform, see `Preprocess`."""
    camera: str = "left"
    """View to decode: `left`, `right`, `wrist` or a serial number."""
    views: tuple[str, ...] = ()
    """Views of each frame, in order, the first of which is `camera`; empty for `camera` alone."""
    fps: float = field(default=FPS, metadata=between(1e-6, 1000, "Hz"))
    """Frames per second [Hz]."""
    links: Links = "inside"
    """Where links in the data may lead, see `ReadOptions`."""
    rlds_fps: float = field(default=CONTROL_HZ, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set [Hz]."""

    @property
    def preprocess(self) -> Preprocess:
        """Return the image transform."""
        return Preprocess(self.transform, (self.image_size, self.image_size))


def actions_between(episode: Episode, steps: NDArray[np.int64]) -> Array:
    """Return the actions [len(steps), A] between consecutive steps.

    These are the actions as sent if the episode holds them and `steps` are contiguous; otherwise
    they are differences of the states, with zeros in the last row.
    """
    if episode.actions_TA is not None and (np.diff(steps) == 1).all():
        return episode.actions_TA[steps]
    _, actions_KA = state_actions(episode, steps, "flange")
    return np.concatenate([actions_KA, np.zeros((1, actions_KA.shape[1]))])


def read_sequences(
    row: Row, manifest: Manifest, options: DecodeOptions
) -> list[dict[str, np.ndarray]]:
    """Decode the frames, states, actions and object positions of an indexed episode.

    Raises:
        DataError: The episode changed since it was indexed; the message names it.
    """
    torch.set_num_threads(1)
    views = options.views or (row["camera"],)
    episode, steps = open_row(manifest, row, views=options.views), row["steps"]
    objects_T3, sent = episode.objects_T3, np.array(episode.actions_TA is not None)
    if objects_T3 is None:
        objects_T3 = np.full((steps, 3), np.nan)
    poses_TM4 = np.full((steps, MAX_OBJECTS, 4), np.nan)
    if episode.object_poses_TM4 is not None:
        known_TM4 = episode.object_poses_TM4[:steps, :MAX_OBJECTS]
        poses_TM4[:, : known_TM4.shape[1]] = known_TM4
    arrays: list[dict[str, np.ndarray]] = []
    try:
        for part in sequences(episode.times_s[:steps], options.fps):
            arrays.append(
                {
                    "frames": read_views(episode, views, part, options.preprocess),
                    "states": episode.states_TS[part].astype(np.float32),
                    "actions": actions_between(episode, part).astype(np.float32),
                    "objects": objects_T3[part].astype(np.float32),
                    "poses": poses_TM4[part].astype(np.float32),
                    "sent": sent & (np.diff(part) == 1).all(),
                }
            )
    except EpisodeError as error:
        raise DataError(f"Episode {row['path']} cannot be used: {error}") from error
    return arrays


def index_folder(
    root: Path,
    *,
    camera: str = "left",
    views: tuple[str, ...] = (),
    links: Links = "inside",
    rlds_fps: float = CONTROL_HZ,
    workers: int = 2,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
    cache: str | Path = "",
) -> Manifest:
    """Index `root` in the cache folder; only changed episodes are inspected again.

    If `root` is an index, it is opened instead.

    Raises:
        DataError: There is no usable episode, or more were rejected than allowed.
        ConfigError: The cache folder is not writable, the map of columns is missing, or an index
            was made with other options.
    """
    if (root / MANIFEST).is_file():
        given = {"camera": camera, "links": links, "rlds_fps": rlds_fps}
        return _open_index(root, given, max_reject_fraction)
    root = find_root(root)
    if not find_units(root, links):
        raise DataError(
            f"No episodes under {root}: give data=FOLDER and val=FOLDER of episodes, or make some "
            f"with `worldmodel collect out={root}`"
        )
    read = ReadOptions(camera=camera, views=views, links=links, rlds_fps=rlds_fps)
    index = cache_slot("index", root, dataclasses.asdict(read), cache)
    options = IndexOptions(read=read)
    with locked(index / "lock"):
        summary = build_index(root, index, options, workers=workers)
        manifest = open_manifest(index)
    if summary["rejected"]:
        log.warning(
            "%d of %d episodes under %s are rejected: %s; see %s",
            summary["rejected"],
            summary["rejected"] + summary["accepted"],
            root,
            summary["reasons"],
            index / "rejects.jsonl",
        )
    manifest.check(max_reject_fraction)
    return manifest


def _open_index(folder: Path, given: dict[str, object], max_reject_fraction: float) -> Manifest:
    """Open an index that was made as the options say; an option at its default says nothing."""
    manifest = open_manifest(folder)
    default = vars(ReadOptions())
    for name, value in given.items():
        if value not in (default[name], manifest.summary.get(name)):
            raise ConfigError(
                f"{name}={value} has no effect on the index {folder}, which was made with {name}="
                f"{manifest.summary.get(name)}: leave it out, or index again with it"
            )
    manifest.check(max_reject_fraction)
    return manifest


def _decode(manifest: Manifest, options: DecodeOptions, workers: int, folder: Path) -> None:
    """Write the flat arrays of all accepted episodes into an empty folder.

    Raises:
        DataError: Only some of the episodes hold the actions as sent.
    """
    files = {name: GrowingArray(folder / f"{name}.npy") for name in FIELDS}
    starts, sent = [0], set()
    read = functools.partial(read_sequences, manifest=manifest, options=options)
    with WorkerPool(read, workers) as pool:
        jobs = pool.ordered(manifest.rows)
        bar = tqdm(jobs, total=len(manifest.rows), desc="decoding", unit="episode")
        for sequence in itertools.chain.from_iterable(bar):
            for name in FIELDS:
                files[name].add(sequence[name])
            starts.append(starts[-1] + len(sequence["states"]))
            sent.add(bool(sequence["sent"]))
    for file in files.values():
        file.close()
    np.save(folder / "starts.npy", np.array(starts))
    if len(sent) > 1:
        raise DataError(
            f"Some episodes under {manifest.root} hold the actions as sent (action/delta, 4 a "
            "second) and others do not; their gripper numbers differ in meaning: keep them apart, "
            "in folders of their own"
        )
    facts = {
        "root": str(manifest.root),
        "index": manifest.summary,
        "sent": sent == {True},
        "content": digest_of([starts, *(file.digest.hexdigest() for file in files.values())]),
    }
    write_json(folder / "facts.json", facts, indent=None)


@contextmanager
def decoded(
    root: Path,
    options: DecodeOptions,
    *,
    workers: int = 2,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
    cache: str | Path = "",
) -> Iterator[Path]:
    """Yield the folder of flat .npy arrays of all episodes under `root`, built on first use.

    The arrays are rebuilt when an episode or this package's data code changes. Concurrent runs wait
    for the one that decodes; see `cached_folder`.

    Raises:
        DataError: There is no episode, more were rejected than allowed, or the episodes are
            inconsistent.
        ConfigError: The cache folder is not writable.
    """
    manifest = index_folder(
        root,
        camera=options.camera,
        views=options.views,
        links=options.links,
        rlds_fps=options.rlds_fps,
        workers=workers,
        max_reject_fraction=max_reject_fraction,
        cache=cache,
    )
    slot = cache_slot("frames", root, vars(options), cache)
    names = [f"{row['path']}#{row['record']}" for row in manifest.rows]
    version = digest_of([names, manifest.summary["fingerprint"], code_digest()])
    build = functools.partial(_decode, manifest, options, workers)
    with cached_folder(slot, version, build) as folder:
        yield folder
