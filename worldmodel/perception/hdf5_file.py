"""HDF5 files of results, which a second run of the same command continues.

HDF5 writes parts of its structure late, and a disk that is full by then tears the file. So space is
taken from the disk before each write (`reserved`), and a write that fails changes nothing.

A file of results may come from somebody else, and HDF5 can lead into other files: by links,
external storage and virtual data sets. A file that does is refused, before anything in it is read
or written.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from worldmodel.atomic_io import named_errors, temporary_path
from worldmodel.errors import ConfigError, DataError
from worldmodel.shutdown import patient

BUSY = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MARGIN = 2**17
"""Bytes that HDF5 may add to its structure in one write, generously."""


def source_stamp(path: Path) -> str:
    """Return size and modification time of a file, by which a changed file is recognised.

    It is empty for a file that is missing.
    """
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{facts.st_size} bytes, {facts.st_mtime_ns} ns"


def open_resumable(path: Path, made_by: Mapping[str, object]) -> h5py.File:
    """Open a file of results as `open_results` does, and record what it is made by.

    Args:
        path: HDF5 file.
        made_by: All that its content depends on: HDF5 attributes by name.

    Raises:
        DataError: The file cannot be opened; the message says why.
        ConfigError: It was made by something else; the message names the difference.
    """
    file = open_results(path)
    try:
        with reserved(file):
            _record(file, path, made_by)
    except BaseException:
        file.close()
        raise
    return file


def open_results(path: Path) -> h5py.File:
    """Open a file for reading and appending; create it and its folder if missing.

    Raises:
        DataError: The file cannot be opened, or leads into other files; the message says why.
    """
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise DataError(f"{path} is {what}: give out= a file")
    try:
        if not path.exists():
            require_space(path)
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {_reason(path, error)}") from error
    return _opened(path, "a")


@contextlib.contextmanager
def reserved(file: h5py.File, num_bytes: int = 0) -> Iterator[None]:
    """Take space from the disk, let the block write to the file, and flush the file.

    A signal waits for the end of the block.

    Args:
        file: The file; what was written before is flushed already.
        num_bytes: Size of the values that the block writes.

    Raises:
        OSError: The disk is full; the file is as it was, and the error names it.
    """
    handle, path = file.id.get_vfd_handle(), os.fsdecode(file.filename)
    _allocate(handle, path, num_bytes + MARGIN)
    with patient():  # a process that ends in the middle of a write tears the file
        try:
            yield
        finally:
            file.flush()
            os.ftruncate(handle, file.id.get_filesize())


def _allocate(handle: int, path: str, num_bytes: int) -> None:
    """Add space to the end of a file; if there is too little, leave it as it was.

    Raises:
        OSError: The disk, a quota or a limit leaves too little; the error names the file.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    end = os.fstat(handle).st_size
    try:
        os.posix_fallocate(handle, end, num_bytes)
    except OSError as error:
        os.ftruncate(handle, end)
        if error.errno in FULL:
            raise OSError(error.errno, error.strerror, path) from error


def require_space(path: Path, num_bytes: int = 0) -> None:
    """Check that there is space for a new file with so many bytes; create its folder.

    Raises:
        OSError: There is not; the error names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    try:
        with named_errors(path), part.open("wb") as file:
            _allocate(file.fileno(), str(path), num_bytes + MARGIN)
    finally:
        part.unlink(missing_ok=True)


def read_results(path: Path) -> h5py.File:
    """Open a file of results for reading.

    Raises:
        DataError: The file cannot be opened, or leads into other files; the message says why.
    """
    return _opened(path, "r")


def _opened(path: Path, mode: Literal["r", "a"]) -> h5py.File:
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {_reason(path, error)}") from error
    try:
        _require_own_content(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _require_own_content(file: h5py.File, path: Path) -> None:
    """Refuse a file with links, or with values in other files.

    Raises:
        DataError: There is one; the message names it.
    """

    def is_link(name: str, link: object) -> str | None:
        return None if isinstance(link, h5py.HardLink) else name

    def is_elsewhere(name: str, item: h5py.Group | h5py.Dataset) -> str | None:
        outside = isinstance(item, h5py.Dataset) and (item.is_virtual or item.external)
        return name if outside else None

    try:
        found = file.visititems_links(is_link) or file.visititems(is_elsewhere)
    except (OSError, RuntimeError, KeyError) as error:  # HDF5's answers to a damaged file
        raise DataError(f"{path} is damaged ({error}): use another out=") from error
    if found is not None:
        raise DataError(
            f"{path} is refused: {found} in it leads to other data, and results lie in the file "
            "itself. Use another out="
        )


def _reason(path: Path, error: OSError) -> str:
    """Return why a file cannot be opened, and the fix."""
    locked = "unable to lock file" in str(error)
    if locked and error.errno in (*BUSY, None):
        return "another process has it open: wait until it ends, or use another out="
    if isinstance(error, PermissionError):
        return "access denied: use an out= that you may write"
    if error.errno in FULL:
        return "no space left: free some, then start the same command again"
    if path.is_file() and not h5py.is_hdf5(path):
        return "it is not an HDF5 file, or is damaged; use another out="
    return f"{error}; it may be damaged, use another out="


def _record(file: h5py.File, path: Path, made_by: Mapping[str, object]) -> None:
    is_new = not len(file) and not len(file.attrs)
    for key, value in made_by.items():
        old = value if is_new else file.attrs.get(key, "an unknown one")
        if isinstance(old, np.ndarray) or old != value:  # an array is none of ours
            raise ConfigError(
                f"{path} was written with {key}={old!r}, this run has {value!r}: one file holds "
                "results of one kind; use another out="
            )
    for key, value in made_by.items():
        file.attrs[key] = value
