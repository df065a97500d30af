"""Made clips of moving shapes that are kept in a folder, for runs that read faster than they make.

Several runs on one set, or one on a GPU, then spend no time on making clips. The clips are those
that `ShapeClips` makes, so a run learns the same with and without the folder.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import numpy as np

from worldmodel.atomic_io import named_errors, temporary_path
from worldmodel.data.moving_shapes import ShapeClips
from worldmodel.data.shape_options import ShapeClipOptions
from worldmodel.errors import DataError
from worldmodel.processes import run_jobs

PART = 2000
"""Number of clips that a worker makes at a time."""
made = functools.lru_cache(maxsize=1)(ShapeClips)
"""The set of some options; a worker draws its textures once."""


class StoredShapes:
    """A made set whose clips are read from a folder, which several processes may share."""

    def __init__(self, options: ShapeClipOptions, folder: Path, workers: int = 1) -> None:
        """Make the clips that the folder lacks; existing ones are read as they are.

        Args:
            options: The set.
            folder: Folder of made sets; each has a folder of its own in it.
            workers: Number of processes that make clips.

        Raises:
            DataError: The folder holds files of another size than the set's.
            OSError: The folder cannot be written, or the disk is full.
        """
        source = made(options)
        self.options, self.hash = options, source.content_hash()
        path = folder / self.hash
        if not path.is_dir():
            _make(source, path, workers)
        sizes = {k: (v.dtype, (len(source), *v.shape[1:])) for k, v in _example(source).items()}
        self.arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in sizes}
        found = {name: (array.dtype, array.shape) for name, array in self.arrays.items()}
        if found != sizes:
            raise DataError(f"{path} holds {found}; expected {sizes}: delete the folder")

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.options.num_clips

    def content_hash(self) -> str:
        """Return a hash of the options, which determine every clip."""
        return self.hash

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the same arrays as `ShapeClips.batch`."""
        return {name: np.array(array[indices]) for name, array in self.arrays.items()}


def _example(source: ShapeClips) -> dict[str, np.ndarray]:
    return source.batch(np.arange(1))


def _make(source: ShapeClips, path: Path, workers: int) -> None:
    """Make all clips in a temporary folder, which is renamed when it is complete."""
    part = temporary_path(path)
    part.mkdir(parents=True)
    try:
        with named_errors(part):
            for name, values in _example(source).items():
                _reserve(part / f"{name}.npy", values.dtype, (len(source), *values.shape[1:]))
        jobs = [(source.options, part, start) for start in range(0, len(source), PART)]
        with run_jobs(_fill, jobs, workers) as done:
            for _ in done:
                pass
        try:
            part.rename(path)
        except OSError:
            if not path.is_dir():  # else another run was faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _reserve(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Create an array's file at its full size, so that a full disk is an error here."""
    np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    with file.open("rb+") as opened:
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _fill(job: tuple[ShapeClipOptions, Path, int]) -> None:
    """Make the clips of one part of a set, and write them to their places."""
    options, folder, start = job
    rows = slice(start, min(start + PART, options.num_clips))
    for name, values in made(options).batch(np.arange(rows.start, rows.stop)).items():
        array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+")
        array[rows] = values
        array.flush()
