"""Commands in processes of their own that a signal ends: readiness, children and exit status."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 240
"""Longest wait for something that takes seconds when the machine is free."""
STOP_S = 2.0
"""Time within which a command ends after a signal on a free machine [s]."""
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def processes_of(session: int) -> list[int]:
    """Return the processes of a session that still run; the resource tracker ends by itself."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if (
            int(fields[3]) == session
            and fields[0] not in "ZX"
            and command  # else it is ending already
            and b"resource_tracker" not in command
        ):
            found.append(int(stat.parent.name))
    return found


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used, without its children; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _defaults() -> None:
    for number in STATUS:
        signal.signal(number, signal.SIG_DFL)


@dataclass
class Ended:
    """What a signal left."""

    status: int
    seconds: float
    """Time from the signal to the end, on this machine as busy as it is [s]."""
    processor_s: float
    """Processor time of the command's own process in that time [s]."""
    left: list[int]
    text: str

    def check(self, number: signal.Signals) -> None:
        """Check status, work after the signal, children and words.

        A busy machine only stretches the wall time, so the processor time has the limit of 2 s;
        `benchmarks/signals.py` measures both.
        """
        assert self.status == STATUS[number], self.text[-3000:]
        assert self.left == []
        assert self.processor_s < STOP_S, (self.seconds, self.text[-3000:])
        assert "Traceback" not in self.text


def end(
    words: list[str],
    log: Path,
    ready: Callable[[str], bool],
    number: signal.Signals,
    *,
    group: bool = False,
) -> Ended:
    """Start `worldmodel WORDS`, wait until its output is `ready`, and send a signal.

    Args:
        words: Command and options.
        log: File of its output.
        ready: Whether the command is in the middle of its work, from its output.
        number: Signal.
        group: Whether the signal goes to all processes, as Ctrl-C in a terminal does.
    """
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "worldmodel", *words],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=_defaults,
        )
    try:
        until = time.monotonic() + TIMEOUT_S
        while not ready(log.read_text(errors="replace")):
            assert child.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(0.005)
        began, used_s = time.monotonic(), processor_s(child.pid)
        (os.killpg if group else os.kill)(child.pid, number)
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            assert time.monotonic() < began + TIMEOUT_S, log.read_text(errors="replace")[-3000:]
            time.sleep(0.005)
        seconds, used_s = time.monotonic() - began, processor_s(child.pid) - used_s
        status = child.wait(TIMEOUT_S)
        until = began + max(STOP_S, seconds + 1.0)  # children have the same 2 s
        while (left := processes_of(child.pid)) and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        for pid in processes_of(child.pid):
            os.kill(pid, signal.SIGKILL)
    return Ended(status, seconds, used_s, left, log.read_text(errors="replace"))


def run(words: list[str]) -> str:
    """Run `worldmodel WORDS` to its end and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "worldmodel", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr
