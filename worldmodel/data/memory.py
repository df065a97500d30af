"""Clips of short episodes that are decoded once into flat arrays, so that small models train fast.

Episodes of every layout come through the index and the readers that all training uses, and their
frames through the one image transform; no episode is replaced by another. The arrays lie in the
cache folder (`worldmodel.data.cache`).

Shapes: T control steps of an episode, F frames of all sequences laid end to end, B clips, K frames
of a clip, H W pixels, S state (7), A action (7).
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.cache import cache_slot, cached_folder, code_digest, digest_of, locked
from worldmodel.data.dataset import open_row
from worldmodel.data.episode import Array, Episode, EpisodeError
from worldmodel.data.index import IndexOptions, Manifest, Row, build_index, open_manifest
from worldmodel.data.readers.droid import ReadOptions
from worldmodel.data.readers.layouts import find_units
from worldmodel.data.sampling import sequences, state_actions
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import DataError
from worldmodel.specs import Transform

log = logging.getLogger(__name__)
FIELDS = ("frames", "states", "actions", "objects")
FPS = 4.0
"""Frames per second [Hz] that faster recordings are thinned to, by their timestamps."""
MAX_REJECT_FRACTION = 0.5


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """What the arrays depend on besides the episodes."""

    image_size: int
    """Height and width of the frames [px]."""
    transform: Transform = "droid"
    """Kind of the image transform, see `Preprocess`."""
    camera: str = "left"
    """View to decode: `left`, `right`, `wrist` or a serial number."""
    fps: float = FPS
    """Frames per second [Hz]."""

    @property
    def preprocess(self) -> Preprocess:
        """Return the image transform."""
        return Preprocess(self.transform, (self.image_size, self.image_size))


def actions_between(episode: Episode, steps: NDArray[np.int64]) -> Array:
    """Return the actions [len(steps), A] that lead from each step to the next.

    Where the episode holds the actions as they were sent, and `steps` follow each other without a
    gap, those are returned; otherwise differences of the states, and zeros in the last row, which
    leads nowhere.
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
        DataError: The episode is no longer what the index saw; the message names it.
    """
    torch.set_num_threads(1)
    episode, steps = open_row(manifest, row), row["steps"]
    objects_T3, sent = episode.objects_T3, np.array(episode.actions_TA is not None)
    if objects_T3 is None:
        objects_T3 = np.full((steps, 3), np.nan)
    found: list[dict[str, np.ndarray]] = []
    try:
        source = episode.camera(row["camera"]).frames
        for part in sequences(episode.times_s[:steps], options.fps):
            found.append(
                {
                    "frames": options.preprocess(torch.from_numpy(source.read(part))).numpy(),
                    "states": episode.states_TS[part].astype(np.float32),
                    "actions": actions_between(episode, part).astype(np.float32),
                    "objects": objects_T3[part].astype(np.float32),
                    "sent": sent & (np.diff(part) == 1).all(),
                }
            )
    except EpisodeError as error:
        raise DataError(f"Episode {row['path']} cannot be used: {error}") from error
    return found


def index_folder(
    root: Path,
    *,
    camera: str = "left",
    workers: int = 2,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
    cache: str | Path = "",
) -> Manifest:
    """Index `root` in the cache folder; only episodes that changed are inspected again.

    Raises:
        DataError: No episode, none usable, or more rejected than allowed.
        ConfigError: There is no cache folder that can be written to.
    """
    if not root.is_dir() or not find_units(root):
        raise DataError(f"No episodes under {root}: make some with `worldmodel collect out={root}`")
    index = cache_slot("index", root, {"camera": camera}, cache)
    options = IndexOptions(read=ReadOptions(camera=camera))
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


class _GrowingArray:
    """A .npy file that rows are appended to; `close` writes their number into its header."""

    def __init__(self, path: Path) -> None:
        self.file: IO[bytes] = path.open("wb")
        self.rows = 0
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)

    def _write_header(self) -> None:
        facts = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self.file, facts)

    def add(self, array: np.ndarray) -> None:
        if not self.rows:
            self.shape, self.dtype = array.shape[1:], array.dtype
            self._write_header()
        if array.shape[1:] != self.shape:
            raise DataError(
                f"Rows of shape {array.shape[1:]} follow rows of shape {self.shape}: the episodes "
                "of one data set must have states and actions of one size"
            )
        self.file.write(np.ascontiguousarray(array).tobytes())
        self.rows += len(array)

    def close(self) -> None:
        self.file.seek(0)  # the header has room for a larger number of rows
        self._write_header()
        self.file.close()


def _decode(manifest: Manifest, options: DecodeOptions, workers: int, folder: Path) -> None:
    """Write the flat arrays of all accepted episodes into an empty folder.

    Raises:
        DataError: Some episodes hold the actions as sent and others do not.
    """
    files = {name: _GrowingArray(folder / f"{name}.npy") for name in FIELDS}
    starts, sent = [0], set()
    read = functools.partial(read_sequences, manifest=manifest, options=options)
    with ProcessPoolExecutor(workers) as pool:
        jobs = pool.map(read, manifest.rows, chunksize=8)
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
    facts = {"root": str(manifest.root), "index": manifest.summary, "sent": sent == {True}}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


@contextmanager
def decoded(
    root: Path,
    options: DecodeOptions,
    *,
    workers: int = 2,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
    cache: str | Path = "",
) -> Iterator[Path]:
    """Give the folder of flat .npy arrays of all episodes under `root`, made on first use.

    The arrays are made again when an episode or this package's data code has changed. Runs that
    start at the same time wait for the one that decodes; see `cached_folder`.

    Raises:
        DataError: No episode, more rejected than allowed, or episodes that do not fit together.
        ConfigError: There is no cache folder that can be written to.
    """
    manifest = index_folder(
        root,
        camera=options.camera,
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


class MemoryClips:
    """Every window of `num_frames` neighbouring frames of every sequence."""

    def __init__(self, folder: Path, num_frames: int) -> None:
        self.num_frames = num_frames
        self.arrays: dict[str, Any] = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "frames" else None)
            for name in FIELDS
        }
        starts = np.load(folder / "starts.npy")
        firsts = [np.arange(a, b - num_frames + 1) for a, b in itertools.pairwise(starts)]
        self.firsts = np.concatenate(firsts)
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self.sent: bool = facts["sent"]
        """Whether actions are those that were sent (the gripper's a command), not differences."""

    @property
    def labelled(self) -> bool:
        """Return whether every frame has the simulator's object position."""
        return bool(np.isfinite(self.arrays["objects"]).all())

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.firsts)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return frames uint8 [B,K,H,W,3], states [B,K,S], actions [B,K-1,A], objects [B,K,3]."""
        steps = self.firsts[indices][:, None] + np.arange(self.num_frames)
        out = {name: np.asarray(self.arrays[name][steps]) for name in FIELDS}
        out["actions"] = np.ascontiguousarray(out["actions"][:, :-1])
        return out


def open_clips(
    root: str | Path,
    num_frames: int,
    image_size: int,
    *,
    transform: Transform = "droid",
    camera: str = "left",
    fps: float = FPS,
    workers: int = 2,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
    cache: str | Path = "",
) -> MemoryClips:
    """Open the clips of the episodes under `root`; they are indexed and decoded on first use.

    Args:
        root: Folder of raw DROID, RLDS or LeRobot episodes; nothing is written into it.
        num_frames: Frames of a clip.
        image_size: Height and width of the frames [px].
        transform: Kind of the image transform, see `Preprocess`.
        camera: View to decode: `left`, `right`, `wrist` or a serial number.
        fps: Frames per second [Hz]; faster recordings are thinned by their timestamps.
        workers: Processes that decode.
        max_reject_fraction: Largest share of the episodes that may be rejected, 0 to 1.
        cache: Folder for the decoded arrays; empty for the default, see `cache_root`.

    Raises:
        DataError: No episode, or more rejected than allowed; the message holds the reasons.
        ConfigError: There is no cache folder that can be written to.
    """
    options = DecodeOptions(image_size=image_size, transform=transform, camera=camera, fps=fps)
    with decoded(
        Path(root), options, workers=workers, max_reject_fraction=max_reject_fraction, cache=cache
    ) as folder:
        return MemoryClips(folder, num_frames)
