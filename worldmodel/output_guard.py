"""One run at a time in an output folder: a lock file that names its owner.

The file holds the owner's process number, machine, start time and command. A lock is stale, and is
taken over, if its process has ended, its number belongs to a younger process, or, on another
machine, the owner has not renewed it for `STALE_S`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from worldmodel.atomic_io import named_errors, no_links
from worldmodel.errors import WorldModelError

RENEW_S = 10.0
"""Time between two renewals of a lock [s]."""
STALE_S = 60.0
"""Age above which another machine's lock is stale, also if it is in the future [s]."""


class OutputInUseError(WorldModelError, RuntimeError):
    """Another run writes to the same output."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock."""

    pid: int
    host: str
    started: str
    """When the process started, as the system tells it; compared, not parsed."""
    since: str
    """When the run began, for people."""
    command: str

    @property
    def here(self) -> bool:
        """Return whether the owner is, or was, on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Return whether the owner is a process of this machine that still runs."""
        return self.here and _start_time(self.pid) == self.started


def _start_time(pid: int) -> str:
    """Return when a process started; empty if there is none or it is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()


def lock_path(out: Path, *, is_file: bool = False) -> Path:
    """Return the path of the lock of an output folder, or of an output file."""
    return out.with_name(f".{out.name}.lock") if is_file else out / ".lock"


def _read(file: IO[str]) -> Owner | None:
    """Return the owner that a lock file names; None for an empty, torn or odd one."""
    file.seek(0)
    try:
        owner = Owner(**json.loads(file.read()))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (owner.host, owner.started, owner.since, owner.command)
    readable = all(isinstance(text, str) and text.isprintable() for text in texts)
    return owner if readable and type(owner.pid) is int else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Open a lock file, alone, creating it if it is missing."""
    while True:
        with open(path, "a+", encoding="utf-8", opener=no_links) as file:
            with contextlib.suppress(OSError):  # file systems without locks: rare races remain
                fcntl.lockf(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    yield file
                    return
        # the previous owner has just deleted the file that was opened: try again


def _age_s(path: Path) -> float:
    """Return the age of a file by the clock of its file system [s]."""
    probe = path.with_name(f"{path.name}-{os.getpid()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _require_free(out: Path, path: Path, owner: Owner | None, age_s: float) -> None:
    # a lock of the future is as stale: a run that is alive would have renewed it since
    not_renewed = not -STALE_S <= age_s <= STALE_S
    if owner is None or (owner.here and not owner.alive) or (not owner.here and not_renewed):
        return
    fix = "Wait until it ends, stop it, or choose another out="
    if not owner.here:
        fix += f"; if that machine is gone, wait {STALE_S:.0f} s or delete {path}"
    raise OutputInUseError(
        f"{out} is in use by another run: process {owner.pid} on {owner.host} since {owner.since} "
        f"(`{owner.command}`). {fix}"
    )


def _take(out: Path, path: Path, me: Owner) -> bool:
    """Write the lock; return False if this process holds it already."""
    age_s = _age_s(path) if path.exists() else 0.0
    with _opened(path) as file:
        owner = _read(file)
        if owner is not None and (owner.pid, owner.host) == (me.pid, me.host) and owner.alive:
            return False
        _require_free(out, path, owner, age_s)
        file.truncate(0)
        file.write(json.dumps(asdict(me)) + "\n")
        file.flush()
    return True


def _renew(path: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEW_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def _make_folder(folder: Path) -> list[Path]:
    """Create a folder; return those that did not exist, the deepest first."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextlib.contextmanager
def output_guard(out: Path, *, is_file: bool = False) -> Iterator[None]:
    """Hold the lock of an output folder, or of an output file, during the block.

    The folder is created; if the block leaves it empty, it is removed again. A block inside another
    of the same process and output changes nothing.

    Args:
        out: Output folder or file.
        is_file: Whether `out` is a file.

    Raises:
        OutputInUseError: A run that is alive holds the lock; the message names it.
        OSError: The folder cannot be created or written to.
    """
    path = lock_path(out, is_file=is_file)
    created = _make_folder(path.parent)
    pid = os.getpid()
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    command = "".join(c if c.isprintable() else "?" for c in command[:500])
    me = Owner(pid, socket.gethostname(), _start_time(pid), since, command)
    with named_errors(path):
        took = _take(out, path, me)
    if not took:
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_renew, args=(path, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with contextlib.suppress(OSError), _opened(path) as file:
            if _read(file) == me:
                path.unlink()
        for folder in created:
            with contextlib.suppress(OSError):  # not empty: kept
                folder.rmdir()
