"""Fetch one file over HTTP: progress bar, resume, size and checksum, whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from worldmodel.errors import DownloadError

CHUNK_BYTES = 1 << 20
ATTEMPTS = 3
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Remote:
    """What is fetched, and how it is recognised."""

    name: str
    url: str
    sha256: str | None = None

    def offline_help(self, path: Path) -> str:
        """Which file to put where, for people without a network."""
        return f"Without a network: fetch {self.url} elsewhere and put it at {path}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time writes a file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open(remote: Remote, path: Path, start: int, etag: str | None) -> Any:
    headers = {"User-Agent": "worldmodel"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag:
            headers["If-Range"] = etag
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is kept is no beginning of the file
            return None
        raise DownloadError(
            f"{remote.name}: {remote.url} answered {error.code} {error.reason}. "
            f"It is not published there any more, or not for you. {remote.offline_help(path)}"
        ) from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(
            f"{remote.name}: {remote.url} cannot be reached ({reason}). {remote.offline_help(path)}"
        ) from error


def _total(answer: Any, start: int) -> int | None:
    """Size of the whole file, from the answer's headers."""
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


def _copy(remote: Remote, answer: Any, part: Path, start: int, total: int | None) -> None:
    bar = tqdm(total=total, initial=start, desc=remote.name, unit="B", unit_scale=True)
    with part.open("ab" if start else "wb") as file, bar, contextlib.closing(answer):
        while True:
            try:
                block = answer.read(CHUNK_BYTES)
            except (http.client.HTTPException, OSError):
                return  # a broken line: what came is kept, the next attempt goes on from there
            if not block:
                return
            file.write(block)
            bar.update(len(block))


def _attempt(remote: Remote, path: Path, part: Path) -> tuple[bool, dict[str, Any]]:
    """One connection; says whether the file is whole, and what the server says of it."""
    notes = part.with_name(part.name + ".json")
    known = json.loads(notes.read_text()) if notes.is_file() else {}
    start = part.stat().st_size if part.is_file() and known.get("url") == remote.url else 0
    if start and start == known.get("size"):
        return True, known
    answer = _open(remote, path, start, known.get("etag"))
    if answer is None:
        part.unlink()
        return False, known
    if answer.status != 206:  # the whole file comes, from its beginning
        start = 0
    total = _total(answer, start)
    headers = answer.headers
    linked = (headers.get("X-Linked-ETag") or "").strip('"')
    known = {
        "url": remote.url,
        "size": total,
        "etag": headers.get("ETag"),
        "sha256": linked if re.fullmatch(r"[0-9a-f]{64}", linked) else None,
    }
    _check_space(path, total, start)
    notes.write_text(json.dumps(known))
    _copy(remote, answer, part, start, total)
    return total is None or part.stat().st_size == total, known


def sha256_of(path: Path) -> str:
    """Checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def fetch(remote: Remote, path: Path) -> Path:
    """Fetch a file to `path` unless it is there; go on with what an earlier try left.

    Raises:
        DownloadError: unreachable, refused, torn after some tries, of a wrong checksum, or no room.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with _locked(path.with_name(path.name + ".lock")):
        if path.is_file():  # another process was faster
            return path
        for _ in range(ATTEMPTS):
            whole, known = _attempt(remote, path, part)
            if whole:
                break
        else:
            have = part.stat().st_size if part.is_file() else 0
            raise DownloadError(
                f"{remote.name}: only {have} of {known.get('size')} bytes came in {ATTEMPTS} "
                f"tries; they are kept in {part}: run it again to go on. "
                f"{remote.offline_help(path)}"
            )
        _check(remote, path, part, known.get("sha256"))
        part.replace(path)
        part.with_name(part.name + ".json").unlink(missing_ok=True)
    return path


def _check(remote: Remote, path: Path, part: Path, linked: str | None) -> None:
    wanted = remote.sha256 or linked
    found = sha256_of(part) if wanted else None
    if wanted and found != wanted:
        part.unlink()
        raise DownloadError(
            f"{remote.name}: {remote.url} has checksum {found}, wanted {wanted}: what came was "
            f"thrown away. Try again; if it stays so, the published file has changed. "
            f"{remote.offline_help(path)}"
        )
