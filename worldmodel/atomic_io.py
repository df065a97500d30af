"""Atomic writes: a file or folder is written completely or not at all.

Content is written under a unique temporary name (`.NAME-XXXXXXXX.part`) beside the final path,
flushed to disk, and then renamed. After a crash or power cut, readers see the old or the new
content, never a part of it, and concurrent writers of one path do not interfere.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

PART_SUFFIX = ".part"
"""Suffix of temporary names, which readers of folders skip."""


def temporary_path(path: Path) -> Path:
    """Return a unique hidden path beside `path` for incomplete content."""
    return path.with_name(f".{path.name[:40]}-{uuid.uuid4().hex[:8]}{PART_SUFFIX}")


def is_temporary(path: Path) -> bool:
    """Return whether `path` is, or lies in, incomplete content."""
    return any(part.endswith(PART_SUFFIX) for part in path.parts)


def no_links(path: str, flags: int) -> int:
    """Open a file as `open` does, unless it is a link, a pipe or a device: for `open(opener=...)`.

    What is written to a folder of somebody else must not land in another file.

    Raises:
        OSError: The path is one of these; the error names it.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a link, which is not followed: delete it", path) from error
        raise
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, "not a regular file: delete it", path)


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
def named_errors(path: Path) -> Iterator[None]:
    """Let a system's error in the block name `path`, such as a full disk's, which names no file.

    Raises:
        OSError: As in the block, with the path.
    """
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds.

    Create missing parent folders. Remove the temporary file if the block raises.

    Yields:
        The temporary path, in the folder of `path`.

    Raises:
        OSError: The write failed, for example on a full disk; the error names `path`, which keeps
            its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    try:
        with named_errors(path):
            yield part
            sync_file(part)
            part.replace(path)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block succeeds.

    Create missing parent folders. Remove the temporary folder if the block raises.

    Yields:
        The temporary folder, beside `path`.

    Raises:
        FileExistsError: `path` exists, perhaps written by another process meanwhile, and is not
            empty.
        OSError: The write failed, for example on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)
    part.mkdir()
    try:
        try:
            yield part
        except OSError as error:  # writers of videos and of HDF5 do not name their file
            if error.filename is not None or error.strerror is None:
                raise
            raise OSError(error.errno, error.strerror, str(path)) from error
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
    """Write a binary file atomically."""
    with atomic_file(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; what is not UTF-8, as in names of files, is escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the file `source`: by a hard link, or by a copy where there are no links.

    Raises:
        OSError: The copy failed, for example on a full disk.
    """
    if target.exists() and target.samefile(source):
        return
    with atomic_file(target) as part:
        try:
            os.link(source, part)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, part)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return a value as JSON; NaN and infinity, which JSON lacks, become null.

    Raises:
        TypeError: The value is not JSON serialisable.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, indent=indent)


def write_json(path: Path, value: object, *, indent: int | None = 2) -> None:
    """Write a value as a JSON file atomically, as `json_text` gives it.

    Raises:
        TypeError: The value is not JSON serialisable.
    """
    write_text(path, json_text(value, indent=indent) + "\n")


def read_json_lines(path: Path) -> Iterator[object]:
    """Yield the values of a file's lines; lines that are not JSON and a missing file give none."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                continue
