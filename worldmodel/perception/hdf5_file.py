"""Open HDF5 files of results, with messages that tell a busy file from a damaged one."""

from __future__ import annotations

import errno
from pathlib import Path

import h5py

from worldmodel.errors import DataError

BUSY = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
FULL = (errno.ENOSPC, errno.EDQUOT)


def open_results(path: Path) -> h5py.File:
    """Open a file for reading and appending; create it and its folder if missing.

    Raises:
        DataError: The file cannot be opened; the message says why.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: give out= a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return h5py.File(path, "a")
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {_reason(path, error)}") from error


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
