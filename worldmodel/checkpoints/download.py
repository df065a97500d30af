"""Download a file over HTTP with a progress bar, atomically.

It serves files that are not on Hugging Face (see `worldmodel.checkpoints.hub` for those).
Interrupted downloads are resumed; size and, if published, checksum are verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from worldmodel.atomic_io import sync_file, sync_folder, write_json
from worldmodel.data.cache import locked
from worldmodel.errors import DownloadError

CHUNK_BYTES = 1 << 20
ATTEMPTS = 3
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Remote:
    """A file to download, with its checksum."""

    name: str
    """Name for messages and the progress bar."""
    url: str
    sha256: str | None = None
    """SHA-256 checksum (64 hexadecimal digits), if published."""

    def offline_help(self, path: Path) -> str:
        """Return the instructions for a manual download."""
        return f"Without a network: download {self.url} elsewhere and put it at {path}"


def _open(remote: Remote, path: Path, start: int, etag: str | None) -> HTTPResponse | None:
    headers = {"User-Agent": "worldmodel"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag:
            headers["If-Range"] = etag
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        return answer
    except urllib.error.HTTPError as error:
        if error.code == 416:  # partial file does not match; restart
            return None
        raise DownloadError(
            f"{remote.name}: {remote.url} answered {error.code} {error.reason}. "
            f"It moved, or access was denied. {remote.offline_help(path)}"
        ) from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(
            f"{remote.name}: {remote.url} cannot be reached ({reason}). {remote.offline_help(path)}"
        ) from error


def _total(answer: HTTPResponse, start: int) -> int | None:
    """Return the size of the whole file from the response headers."""
    match = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if match and int(match[1]) == start:
        return int(match[2])
    length = answer.headers.get("Content-Length")
    return None if length is None else int(length) + start


def _check_space(path: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - have > free:
        raise DownloadError(
            f"{path.name} needs {(total - have) / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free "
            f"in {path.parent}: make room, or set WORLDMODEL_CACHE to another folder"
        )


def _copy(remote: Remote, answer: HTTPResponse, part: Path, start: int, total: int | None) -> None:
    bar = tqdm(total=total, initial=start, desc=remote.name, unit="B", unit_scale=True)
    with part.open("ab" if start else "wb") as file, bar, contextlib.closing(answer):
        while True:
            try:
                block = answer.read(CHUNK_BYTES)
            except (HTTPException, OSError):
                return  # connection lost: the next attempt resumes from here
            if not block:
                return
            file.write(block)
            bar.update(len(block))


def _attempt(remote: Remote, path: Path, part: Path) -> tuple[bool, dict[str, Any]]:
    """Try one connection; return whether the file is complete, and the server's metadata."""
    notes = part.with_name(part.name + ".json")
    known = _read_notes(notes)
    start = part.stat().st_size if part.is_file() and known.get("url") == remote.url else 0
    if start and start == known.get("size"):
        return True, known
    answer = _open(remote, path, start, known.get("etag"))
    if answer is None:
        part.unlink()
        return False, known
    if answer.status != 206:  # the server sends the whole file from its start
        start = 0
    total = _total(answer, start)
    known = {"url": remote.url, "size": total, "etag": answer.headers.get("ETag")}
    _check_space(path, total, start)
    write_json(notes, known)
    _copy(remote, answer, part, start, total)
    return total is None or part.stat().st_size == total, known


def _read_notes(path: Path) -> dict[str, Any]:
    """Return the metadata noted by an earlier attempt; empty if damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def fetch(remote: Remote, path: Path) -> Path:
    """Download a file to `path` unless it exists, resuming an interrupted download.

    Raises:
        DownloadError: The server is unreachable, refuses access or breaks off repeatedly; the
            checksum is wrong; or the disk is full.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with locked(path.with_name(path.name + ".lock")):
        if path.is_file():  # another process downloaded it in the meantime
            return path
        for _ in range(ATTEMPTS):
            complete, metadata = _attempt(remote, path, part)
            if complete:
                break
        else:
            received = part.stat().st_size if part.is_file() else 0
            raise DownloadError(
                f"{remote.name}: received {received} of {metadata.get('size')} bytes in {ATTEMPTS} "
                f"attempts; they are kept in {part}: run it again to resume. "
                f"{remote.offline_help(path)}"
            )
        _check(remote, path, part)
        sync_file(part)
        part.replace(path)
        sync_folder(path.parent)
        part.with_name(part.name + ".json").unlink(missing_ok=True)
    return path


def _check(remote: Remote, path: Path, part: Path) -> None:
    if remote.sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != remote.sha256:
        part.unlink()
        raise DownloadError(
            f"{remote.name}: {remote.url} has checksum {found}, expected {remote.sha256}: the "
            "download was deleted. Try again; if it happens again, the published file has changed. "
            f"{remote.offline_help(path)}"
        )
