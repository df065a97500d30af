"""Download a file over HTTP with a progress bar, atomically, and only with a proof.

It serves files that are not on Hugging Face (see `worldmodel.checkpoints.hub` for those). A file is
put in place only if its size was announced and received exactly, or its end was marked, and if its
checksum fits one that is known or announced by any server on the way. A download resumes only where
the server confirms that the content is still the same.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from worldmodel.atomic_io import sync_file, sync_folder, write_json
from worldmodel.checkpoints.http_identity import Identity, content_range, identify, read_identity
from worldmodel.checkpoints.http_stream import Head, Stream, StreamError
from worldmodel.checkpoints.patience import PATIENT, BrokenError, Patience, SpeedFloor
from worldmodel.data.cache import locked
from worldmodel.errors import DownloadError

SPACE_CHECK_BYTES = 64 << 20
WEB_PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Remote:
    """A file to download, with what is known about it."""

    name: str
    """Name for messages and the progress bar."""
    url: str
    sha256: str | None = None
    """SHA-256 checksum (64 hexadecimal digits), if published."""
    size: int | None = None
    """Size [bytes], if published."""
    verify: Callable[[Path], None] | None = None
    """Check of the content, which raises an error that states the problem."""

    def offline_help(self, path: Path) -> str:
        """Return the instructions for a manual download."""
        return f"Without a network: download {self.url} elsewhere and put it at {path}"


class _Download:
    """One file on its way to `path`, through `path`.part and its notes."""

    def __init__(self, remote: Remote, path: Path, patience: Patience) -> None:
        self.remote, self.path, self.patience = remote, path, patience
        self.part = path.with_name(path.name + ".part")
        self.notes_path = self.part.with_name(self.part.name + ".json")
        self.ends_s = time.monotonic() + patience.deadline_s
        self.size: int | None = remote.size
        self.resumed = False

    def error(self, problem: str) -> DownloadError:
        r = self.remote
        return DownloadError(f"{r.name}: {r.url} {problem}. {r.offline_help(self.path)}")

    def discard(self) -> None:
        """Remove the partial file, whatever it is."""
        for path in (self.part, self.notes_path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def attempt(self) -> None:
        """Try one connection, and put the file in place if it is complete.

        Raises:
            BrokenError: The connection failed; what arrived is kept if it can be continued.
            DownloadError: Another attempt would not help.
        """
        notes, start = self._kept()
        self.resumed = start > 0
        if notes is None or not start or start != notes.size:
            notes = self._transfer(notes, start)
        self._check(notes)
        sync_file(self.part)
        self.part.replace(self.path)
        sync_folder(self.path.parent)
        self.notes_path.unlink(missing_ok=True)

    def _kept(self) -> tuple[Identity | None, int]:
        """Return the notes and size of a partial file that can be continued."""
        notes = read_identity(self.notes_path)
        have = self.part.stat().st_size if self.part.is_file() else 0
        proof = notes is not None and (notes.validator or notes.sha256 or self.remote.sha256)
        if notes is None or not proof or notes.url != self.remote.url or not have:
            self.discard()
            return None, 0
        if notes.size is None or have > notes.size:
            self.discard()
            return None, 0
        return notes, have

    def _transfer(self, notes: Identity | None, start: int) -> Identity:
        r, headers = self.remote, {"User-Agent": "worldmodel"}
        if notes is not None and start:
            headers["Range"] = f"bytes={start}-"
            if notes.validator:
                headers["If-Range"] = notes.validator
        stream = Stream(r.url, headers, timeout_s=self.patience.timeout_s)
        try:
            wait_s = min(2 * self.patience.timeout_s, self.ends_s - time.monotonic())
            try:
                head = stream.head(wait_s)
            except StreamError as error:
                raise BrokenError(f"cannot be reached ({error})") from error
            self._require_success(head, start)
            try:
                found = identify(head, r.url, size=r.size, sha256=r.sha256)
            except ValueError as error:
                raise self.error(str(error)) from error
            if head.status == 206:
                self._require_same(head, notes, found, start)
            else:
                start = 0
            self.size = total = found.size
            self._check_space(total, start)
            write_json(self.notes_path, vars(found))
            received = self._copy(stream, start, total)
        finally:
            stream.close()
        if not received or (total is not None and received != total):
            raise BrokenError(f"sent {received} of {total} bytes")
        return found

    def _require_success(self, head: Head, start: int) -> None:
        if head.status == 416:
            self.discard()
            if start:
                raise BrokenError("has no such range: the file has changed")
        if head.status in {200, 206}:
            return
        advice = "It moved, or access was denied"
        if head.status >= 500 or head.status in {408, 429}:
            advice = "The server is busy or broken: try again later"
        raise self.error(f"answered {head.status} {head.reason}. {advice}")

    def _require_same(
        self, head: Head, notes: Identity | None, found: Identity, start: int
    ) -> None:
        """Check that a partial answer continues the kept bytes."""
        part = content_range(head)
        fits = part is not None and part[0] == start and part[1] == part[2] - 1
        known = self.remote.sha256 is not None
        same = notes is None or notes.is_same(found) or (known and notes.size == found.size)
        if not fits or not same:
            self.discard()
            raise BrokenError(
                f"continued with other content ({head.headers.get('Content-Range')}): restarting"
            )

    def _check_space(self, total: int | None, have: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        needed = (total if total is not None else have + 2 * SPACE_CHECK_BYTES) - have
        if needed > free:
            raise DownloadError(
                f"{self.path.name} needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free "
                f"in {self.path.parent}: make room, or set WORLDMODEL_CACHE to another folder"
            )

    def _copy(self, stream: Stream, start: int, total: int | None) -> int:
        """Append the body to the partial file; return its size at the end of the answer.

        Raises:
            BrokenError: The answer broke off, or is too slow.
            DownloadError: The deadline has passed, or the answer is longer than announced.
        """
        have = checked = start
        bar = tqdm(total=total, initial=start, desc=self.remote.name, unit="B", unit_scale=True)
        with self.part.open("ab" if start else "wb") as file, bar:
            speed = SpeedFloor(self.patience)
            while True:
                left_s = self.ends_s - time.monotonic()
                if left_s <= 0:
                    raise self.error(
                        f"sent {have} bytes in {self.patience.deadline_s:g} s: too slow"
                    )
                try:
                    block = stream.block(min(self.patience.timeout_s, left_s))
                except StreamError as error:
                    raise BrokenError(f"broke off ({error})") from error
                if not block:
                    return have
                have += len(block)
                if total is not None and have > total:
                    self.discard()
                    raise self.error(f"sends more than the announced {total} bytes")
                file.write(block)
                bar.update(len(block))
                if have - checked > SPACE_CHECK_BYTES:
                    checked = have
                    self._check_space(total, have)
                speed.add(len(block))

    def _check(self, notes: Identity) -> None:
        """Verify checksum and content; remove a file that fails.

        Raises:
            BrokenError: A resumed file is wrong; it is fetched again from its start.
            DownloadError: A file that was fetched in one go is wrong.
        """
        with self.part.open("rb") as file:
            start = file.read(64).lstrip().lower()
            expected = self.remote.sha256 or notes.sha256
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest() if expected else None
        problem = ""
        if found != expected:
            problem = f"has checksum {found}, expected {expected}"
        elif start.startswith(WEB_PAGE):
            problem = "is a web page"
        elif self.remote.verify is not None:
            try:
                self.remote.verify(self.part)
            except (OSError, ValueError, RuntimeError) as error:
                problem = f"is not a whole file ({error})"
        if not problem:
            return
        self.discard()
        if self.resumed:
            raise BrokenError(problem)
        raise self.error(
            f"{problem}: the download was deleted. Try again; if it happens again, the published "
            "file has changed"
        )


def fetch(remote: Remote, path: Path, patience: Patience = PATIENT) -> Path:
    """Download a file to `path` unless it exists, resuming an interrupted download.

    Raises:
        DownloadError: The server is unreachable, refuses access, breaks off repeatedly, is too slow
            or sends something else; the checksum is wrong; or the disk is full.
    """
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(path.name + ".lock")):
            if not path.is_file():  # another process may have downloaded it in the meantime
                _fetch(_Download(remote, path, patience))
    except OSError as error:
        raise DownloadError(
            f"{remote.name}: cannot write {path} ({error}): free space, or set WORLDMODEL_CACHE to "
            "another folder"
        ) from error
    return path


def _fetch(download: _Download) -> None:
    reason = ""
    for _ in range(download.patience.attempts):
        try:
            download.attempt()
        except BrokenError as error:
            reason = str(error)
        else:
            return
    received = download.part.stat().st_size if download.part.is_file() else 0
    notes = read_identity(download.notes_path)
    can_resume = received and notes is not None and (notes.validator or notes.sha256)
    kept = f"; they are kept in {download.part}: run it again to resume" if can_resume else ""
    raise download.error(
        f"{reason}: received {received} of {download.size or 'an unknown number of'} bytes in "
        f"{download.patience.attempts} attempts{kept}"
    )
