"""Write a file or a folder completely or not at all.

Everything is written under a unique temporary name (`.NAME-XXXXXXXX.part`) in the folder of the
final path, flushed to the disk, and then renamed. A reader, a crash or a power cut therefore sees
the old content or the new content, never a part of it; two writers of one path do not disturb each
other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

PART_SUFFIX = ".part"
"""Ending of temporary names; readers of folders skip names that end with it."""


def temporary_path(path: Path) -> Path:
    """Return a unique, hidden name beside `path` for content that is not complete yet."""
    return path.with_name(f".{path.name[:40]}-{uuid.uuid4().hex[:8]}{PART_SUFFIX}")


def is_temporary(path: Path) -> bool:
    """Return whether `path` is, or lies in, content that a writer has not completed."""
    return any(part.endswith(PART_SUFFIX) for part in path.parts)


def sync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends without an error.

    Missing parent folders are created. The temporary file is removed when the block raises.

    Yields:
        The temporary path, in the folder of `path`.

    Raises:
        OSError: The disk is full or refuses; `path` keeps its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    try:
        yield part
        sync_file(part)
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it becomes `path` when the block ends without an error.

    Missing parent folders are created. The temporary folder is removed when the block raises.

    Yields:
        The temporary folder, beside `path`.

    Raises:
        FileExistsError: `path` exists already (another process was faster) and is not empty.
        OSError: The disk is full or refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    part.mkdir()
    try:
        yield part
        for inside in sorted(part.rglob("*")):
            (sync_folder if inside.is_dir() else sync_file)(inside)
        sync_folder(part)
        try:
            part.rename(path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(f"{path} exists already") from error
            raise
        sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file of bytes completely or not at all."""
    with atomic_file(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file completely or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object, *, indent: int | None = 2) -> None:
    """Write a value as a JSON file completely or not at all.

    Raises:
        TypeError: The value holds something that JSON cannot express.
    """
    write_text(path, json.dumps(value, indent=indent) + "\n")
