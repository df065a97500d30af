"""Short episodes decoded once into flat arrays, so that a small model trains from memory.

Episodes of every layout come through the index and the readers that all training uses; nothing is
replaced by another sample. Shapes: T control steps of an episode, F frames of all sequences laid
end to end, B clips, K frames a clip, S state (7), A action (7).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.actions import pose_diff
from worldmodel.data.dataset import open_row
from worldmodel.data.episode import Array, Episode, EpisodeError, Frames
from worldmodel.data.index import Manifest, Row, build_index, open_manifest
from worldmodel.data.prepare import grid_runs
from worldmodel.data.readers.layouts import find_units, fingerprint
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import DataError

log = logging.getLogger(__name__)
FIELDS = ("frames", "states", "actions", "objects")
FPS = 4.0
"""Frames a second that faster recordings are thinned to, by their timestamps."""
MAX_REJECT_FRACTION = 0.5


def sequences(times_s: Array, fps: float = FPS) -> list[NDArray[np.int64]]:
    """Control steps of an episode at `fps`, split where the clock has a gap.

    A recording that was made at about `fps` is taken as it is; of a faster one the steps nearest to
    0, 1 / fps, 2 / fps ... by the timestamps.

    Raises:
        EpisodeError: the recording is slower than `fps`.
    """
    dt_s = float(np.median(np.diff(times_s)))
    if dt_s > 1.25 / fps:
        raise EpisodeError("too_slow", f"steps are {dt_s:.3f} s apart; wanted {1 / fps:.3f} s")
    if dt_s < 0.8 / fps:
        return grid_runs(times_s, fps)
    late = np.flatnonzero(np.diff(times_s) > 1.5 / fps)
    return list(np.split(np.arange(len(times_s)), late + 1))


def actions_between(episode: Episode, steps: NDArray[np.int64]) -> Array:
    """Actions [len(steps), 7] that lead from each step to the next.

    As sent where they were recorded at these very steps, else the differences of the states. The
    last row leads nowhere; without a record it is zero.
    """
    if episode.actions_TA is not None and (np.diff(steps) == 1).all():
        return episode.actions_TA[steps]
    states_KS = torch.from_numpy(np.ascontiguousarray(episode.states_TS[steps]))
    actions_KA = np.zeros((len(steps), 7))
    actions_KA[:-1] = pose_diff(states_KS[:-1], states_KS[1:]).numpy()
    return actions_KA


def shrink(frames_KHWC: Frames, image_size: int) -> Frames:
    """Square frames by averaging whole blocks of pixels; others by the DROID crop."""
    height, width = frames_KHWC.shape[1:3]
    if height == width == image_size:
        return frames_KHWC
    if height != width or height % image_size:
        size = (image_size, image_size)
        return Preprocess("droid", size)(torch.from_numpy(frames_KHWC)).numpy()
    k = height // image_size
    shape = (len(frames_KHWC), image_size, k, image_size, k, 3)
    blocks: Frames = frames_KHWC.reshape(shape).mean((2, 4)).round().astype(np.uint8)
    return blocks


def read_sequences(row: Row, manifest: Manifest, image_size: int) -> list[dict[str, np.ndarray]]:
    """Decode the frames, states, actions and object positions of an indexed episode.

    Raises:
        DataError: the episode is no longer what the index saw; it names the episode.
    """
    torch.set_num_threads(1)
    episode, steps = open_row(manifest, row), row["steps"]
    objects_T3, sent = episode.objects_T3, np.array(episode.actions_TA is not None)
    if objects_T3 is None:
        objects_T3 = np.full((steps, 3), np.nan)
    found: list[dict[str, np.ndarray]] = []
    try:
        source = episode.camera(row["camera"]).frames
        for part in sequences(episode.times_s[:steps]):
            found.append(
                {
                    "frames": shrink(source.read(part), image_size),
                    "states": episode.states_TS[part].astype(np.float32),
                    "actions": actions_between(episode, part).astype(np.float32),
                    "objects": objects_T3[part].astype(np.float32),
                    "sent": sent & (np.diff(part) == 1).all(),
                }
            )
    except EpisodeError as error:
        raise DataError(f"Episode {row['path']} cannot be used: {error}") from error
    return found


def index_folder(root: Path, workers: int, max_reject_fraction: float) -> Manifest:
    """Index `root` into `root/.index`; only episodes that changed are looked at again.

    Raises:
        DataError: no episode, none good, or more rejected than allowed.
    """
    if not root.is_dir() or not find_units(root):
        raise DataError(f"No episodes under {root}: make some with `worldmodel collect out={root}`")
    index = root / ".index"
    summary = build_index(root, index, workers=workers)
    if summary["rejected"]:
        log.warning(
            "%d of %d episodes under %s are rejected: %s; see %s",
            summary["rejected"],
            summary["rejected"] + summary["accepted"],
            root,
            summary["reasons"],
            index / "rejects.jsonl",
        )
    manifest = open_manifest(index)
    manifest.check(max_reject_fraction)
    return manifest


def _prints(manifest: Manifest) -> str:
    """Changes when a file of an accepted episode does."""
    wanted = {(row["path"], row["record"]) for row in manifest.rows}
    units = [
        unit
        for unit in find_units(manifest.root)
        if unit.layout == "rlds" or (unit.path, unit.record) in wanted
    ]
    return hashlib.sha256("".join(fingerprint(u) for u in units).encode()).hexdigest()[:16]


def _is_fresh(cache: Path, stamp: dict[str, Any], prints: str) -> bool:
    if not (cache / "stamp.json").is_file():
        return False
    found = json.loads((cache / "stamp.json").read_text(encoding="utf-8"))
    return bool(found["of"] == stamp and found.get("prints", prints) == prints)


class _Appended:
    """A .npy file that rows are appended to; its header is put right at the end."""

    def __init__(self, path: Path) -> None:
        self.file: IO[bytes] = path.open("wb")
        self.rows = 0
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)

    def _header(self) -> None:
        facts = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self.file, facts)

    def add(self, array: np.ndarray) -> None:
        """Append the rows of `array`."""
        if not self.rows:
            self.shape, self.dtype = array.shape[1:], array.dtype
            self._header()
        if array.shape[1:] != self.shape:
            raise DataError(f"rows of {array.shape[1:]} do not go to rows of {self.shape}")
        self.file.write(np.ascontiguousarray(array).tobytes())
        self.rows += len(array)

    def close(self) -> None:
        """Write the number of rows (the header keeps room for it) and flush to disk."""
        self.file.seek(0)
        self._header()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


def _decode(manifest: Manifest, part: Path, image_size: int, workers: int) -> bool:
    """Write the flat arrays of all accepted episodes into the folder `part`.

    Returns:
        Whether the actions are those that were sent.

    Raises:
        DataError: they are in some episodes and not in others.
    """
    files = {name: _Appended(part / f"{name}.npy") for name in FIELDS}
    starts, sent = [0], set()
    read = functools.partial(read_sequences, manifest=manifest, image_size=image_size)
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
    np.save(part / "starts.npy", np.array(starts))
    if len(sent) > 1:
        raise DataError(
            f"Some episodes under {manifest.root} hold the actions as sent (action/delta, 4 a "
            "second) and others do not; their gripper numbers differ in meaning: keep them apart"
        )
    return sent == {True}


def build_cache(
    root: Path, image_size: int, workers: int = 2, max_reject_fraction: float = MAX_REJECT_FRACTION
) -> Path:
    """Index and decode all episodes under `root` once; returns the folder of flat .npy files.

    Written to a folder of this process's own and renamed when whole, so that runs started at the
    same time do not disturb each other; made anew when the episodes change.

    Raises:
        DataError: no episode, or more rejected than allowed.
    """
    manifest = index_folder(root, workers, max_reject_fraction)
    stamp = {"episodes": _names(manifest), "image_size": image_size}
    cache, prints = root / f".frames-{image_size}", _prints(manifest)
    if _is_fresh(cache, stamp, prints):
        return cache
    part = Path(tempfile.mkdtemp(prefix=f".frames-{image_size}-", dir=root))
    try:
        sent = _decode(manifest, part, image_size, workers)
        facts = {"of": stamp, "prints": prints, "index": manifest.summary, "sent": sent}
        (part / "stamp.json").write_text(json.dumps(facts), encoding="utf-8")
        if cache.is_dir() and not _is_fresh(cache, stamp, prints):
            shutil.rmtree(cache)
        part.rename(cache)
    except OSError:
        if not _is_fresh(cache, stamp, prints):  # else another run was first, with the same data
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return cache


def _names(manifest: Manifest) -> list[str]:
    """Episodes by name; those of shared files with their number."""
    return [
        row["path"] if row["layout"] == "droid" else f"{row['path']}#{row['record']}"
        for row in manifest.rows
    ]


class MemoryClips:
    """Every window of `num_frames` neighbouring frames of every sequence."""

    def __init__(self, cache: Path, num_frames: int) -> None:
        self.num_frames = num_frames
        self.arrays: dict[str, Any] = {
            name: np.load(cache / f"{name}.npy", mmap_mode="r" if name == "frames" else None)
            for name in FIELDS
        }
        starts = np.load(cache / "starts.npy")
        firsts = [np.arange(a, b - num_frames + 1) for a, b in itertools.pairwise(starts)]
        self.firsts = np.concatenate(firsts)
        stamp = json.loads((cache / "stamp.json").read_text(encoding="utf-8"))
        self.sent: bool = stamp.get("sent", True)
        """Actions are those that were sent (the gripper's a command), not differences of states."""

    @property
    def labelled(self) -> bool:
        """Every frame has the simulator's object position."""
        return bool(np.isfinite(self.arrays["objects"]).all())

    def __len__(self) -> int:
        return len(self.firsts)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Frames uint8 [B,K,H,W,3], states [B,K,7], actions [B,K-1,7], objects [B,K,3]."""
        steps = self.firsts[indices][:, None] + np.arange(self.num_frames)
        out = {name: np.asarray(self.arrays[name][steps]) for name in FIELDS}
        out["actions"] = np.ascontiguousarray(out["actions"][:, :-1])
        return out


def open_clips(
    root: str | Path,
    num_frames: int,
    image_size: int,
    *,
    max_reject_fraction: float = MAX_REJECT_FRACTION,
) -> MemoryClips:
    """Clips of the episodes under `root`, indexed and decoded on first use.

    Raises:
        DataError: no episode, or more rejected than allowed; the message holds the reasons.
    """
    cache = build_cache(Path(root), image_size, max_reject_fraction=max_reject_fraction)
    return MemoryClips(cache, num_frames)
