"""Parts of a long run: commands with a time limit, which are run once and resume."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

GRACE_S = 20.0
"""Time that a stopped command has to save its work [s]."""


@dataclass
class Parts:
    """Commands of a run, each with a log and a mark of its end in a folder."""

    folder: Path
    """Folder of logs and marks."""
    total_s: float
    """Time after which nothing begins [s]."""
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    """What failed or did not end."""
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def elapsed_s(self) -> float:
        """Time since the beginning [s]."""
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        """Time left [s]."""
        return self.total_s - self.elapsed_s

    def say(self, text: str) -> None:
        """Print a line with the time since the beginning."""
        print(f"{self.elapsed_s:6.0f} s  {text}", flush=True)

    def done(self, name: str) -> bool:
        """Whether a part has ended well."""
        return (self.folder / f"{name}.done").is_file()

    def run(self, name: str, words: list[str], limit_s: float, *, partial: bool = False) -> bool:
        """Run a command unless it is done; never raise for what the command does.

        A command that exceeds its limit gets SIGTERM, then SIGKILL.

        Args:
            name: Name of the part.
            words: Program and arguments.
            limit_s: Time limit [s]; no part outlasts the whole run.
            partial: Whether a stopped command has done what it should, as a recording.

        Returns:
            Whether the part is done.
        """
        if self.done(name):
            return True
        limit_s = min(limit_s, self.left_s)
        if limit_s < 1:
            self.notes.append(f"{name}: no time left")
            return False
        began = time.monotonic()
        with (self.folder / f"{name}.log").open("ab") as log:
            log.write((" ".join(words) + "\n").encode())
            log.flush()
            status = self._wait(words, log.fileno(), limit_s)
        seconds = time.monotonic() - began
        good = status == 0 or (partial and status is None)
        ending = "stopped at its limit" if status is None else f"status {status}"
        self.say(f"{name}: {'done' if status == 0 else ending} in {seconds:.0f} s")
        if good:
            (self.folder / f"{name}.done").write_text(f"{seconds:.1f}\n", encoding="utf-8")
        else:
            self.notes.append(f"{name}: {ending}")
            self._show_end(name)
        return good

    def _wait(self, words: list[str], log: int, limit_s: float) -> int | None:
        """Run a command and return its status; None if it had to be stopped."""
        try:
            process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        except OSError as error:
            os.write(log, f"{error}\n".encode())
            return 127
        with self._lock:
            self._running.add(process)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            return None
        finally:
            with self._lock:
                self._running.discard(process)
            _kill(process)

    def _show_end(self, name: str) -> None:
        text = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        for line in text.replace("\r", "\n").splitlines()[-6:]:
            print(f"          {line[:200]}", flush=True)

    def stop(self) -> None:
        """End all running commands."""
        with self._lock:
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a command and of the processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
