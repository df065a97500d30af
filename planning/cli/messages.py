"""Messages of errors for people."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk, a spent quota and a file size limit."""


def explain(error: BaseException) -> str:
    """Return an error's message with its notes; of a system's error, what to do about the path."""
    notes = [note for note in getattr(error, "__notes__", []) if "\n" not in note]
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join([str(error), *notes])
    fixes = {
        FileExistsError: "A file of this name is in the way: choose another folder",
        NotADirectoryError: "A part of this path is a file: choose another folder",
        IsADirectoryError: "This is a folder: name a file",
        PermissionError: "Choose a path that you may read and write",
    }
    fix = next((text for kind, text in fixes.items() if isinstance(error, kind)), "")
    if error.errno in FULL:
        fix = "Free space there and start the same command again: finished work is kept"
    where = f"{error.filename}: " if error.filename is not None else ""
    return " ".join([f"{where}{error.strerror}. {fix}".rstrip(". "), *notes])
