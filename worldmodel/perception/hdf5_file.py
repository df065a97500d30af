"""HDF5 files of results, which a second run of the same command continues.

A file of results may come from somebody else, and HDF5 can lead into other files: by links,
external storage and virtual data sets. A file that does is refused, before anything in it is read
or written.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from worldmodel.errors import ConfigError, DataError

BUSY = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
FULL = (errno.ENOSPC, errno.EDQUOT)


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
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {_reason(path, error)}") from error
    return _opened(path, "a")


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
