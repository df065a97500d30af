"""Stop long commands on SIGINT, SIGTERM and SIGHUP, all on one path.

The command line installs handlers with `stop_signals`; they raise `Stopped` in the main thread, a
`KeyboardInterrupt`, so code that keeps finished work after Ctrl-C keeps it after the other signals
too. Without installed handlers (Python users, cluster jobs) nothing here changes any signal.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that end a command."""
NOTICE_S = 1.5
"""Time after which a process whose main thread is inside one long library call is ended [s]."""
DEFER_S = 1.0
"""Time for which `deferred_stop` holds a signal back [s]."""
AGAIN_S = 0.01
"""Time after which a dropped signal is sent again [s]."""
EXIT_S = 0.3
"""Time allowed for what is registered to run at the exit of a stopped command [s]."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; its text is Ctrl-C or the signal's name."""

    def __init__(self, number: int) -> None:
        super().__init__("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)


@dataclass
class _State:
    """Handlers of this process, of which there is one set."""

    installed: bool = False
    deferring: bool = False
    patient: bool = False
    pending: int = 0
    """Signal that waits for the end of a `deferred_stop`; 0 for none."""
    received: int = 0
    """Signal that ended the command; 0 for none."""
    unraisable: Callable[[UnraisableHookArgs], object] = sys.__unraisablehook__
    """Hook for exceptions that Python drops, apart from those of signals."""
    raised: threading.Event = field(default_factory=threading.Event)
    """Set when the main thread has left what it was doing."""

    def install(self) -> None:
        """Begin without any signal received."""
        self.installed, self.pending, self.received = True, 0, 0
        self.raised.clear()


_STATE = _State()


def exit_status() -> int:
    """Return the exit status of the interrupted command: 130, 143 (SIGTERM) or 129 (SIGHUP)."""
    return 128 + (_STATE.received or signal.SIGINT)


def name_of(error: KeyboardInterrupt) -> str:
    """Return what interrupted the command: Ctrl-C, SIGTERM or SIGHUP."""
    return str(error) or "Ctrl-C"


def follows_a_signal(error: BaseException) -> bool:
    """Return whether an error was raised while `Stopped` was on its way, as by a library's exit.

    Libraries in C may drop `Stopped` and raise an error of their own in its place, without naming
    it as the context: any error after a signal counts.
    """
    if _STATE.raised.is_set():
        return True
    found: BaseException | None = error
    while found is not None and not isinstance(found, Stopped):
        found = found.__cause__ or found.__context__
    return found is not None


def stop(number: int) -> None:
    """Raise `Stopped` for a signal.

    Raises:
        Stopped: Always.
    """
    _STATE.pending, _STATE.received = 0, number
    _STATE.raised.set()
    raise Stopped(number)


def stop_again_after(error: BaseException) -> None:
    """Raise `Stopped` if an error took its place, so that the work does not go on without it.

    Outside `stop_signals` it does nothing.

    Raises:
        Stopped: The error follows a signal.
    """
    if _STATE.installed and follows_a_signal(error):
        stop(_STATE.received or signal.SIGINT)


def _handle(number: int, _: FrameType | None) -> None:
    if _STATE.raised.is_set() and number != signal.SIGINT:
        return  # the command is ending already; only a second Ctrl-C interrupts that
    if _STATE.deferring and not _STATE.raised.is_set():
        if not _STATE.pending:
            _STATE.pending = number
            _repeat_later()
            return
        if _STATE.patient and number != signal.SIGINT:
            return  # only a second Ctrl-C interrupts what has to be finished
    stop(number)


def _repeat_later() -> None:
    timer = threading.Timer(DEFER_S, _repeat)
    timer.daemon = True
    timer.start()


def _repeat() -> None:
    """Send the signal that waits again, if there still is one, which raises it."""
    waiting = _STATE.pending
    if waiting and _STATE.deferring and _STATE.patient:
        _repeat_later()
    elif waiting:
        signal.pthread_kill(threading.main_thread().ident or 0, waiting)


def _raise_again(found: UnraisableHookArgs) -> None:
    """Send the signal again if Python dropped its exception.

    Python prints and drops what is raised in `__del__` and in callbacks of weak references; without
    this the command would continue and ignore further signals.
    """
    if not isinstance(found.exc_value, Stopped):
        _STATE.unraisable(found)
        return
    _STATE.raised.clear()
    main = threading.main_thread().ident or 0
    timer = threading.Timer(AGAIN_S, signal.pthread_kill, [main, _STATE.received])
    timer.daemon = True
    timer.start()


def _end_if_unnoticed(wakeup: int) -> None:
    """End the process if a signal's handler does not run, since a library call takes long.

    Python runs handlers in the main thread between two of its instructions; `wakeup` receives the
    number of each signal at once.
    """
    while received := os.read(wakeup, 1):
        if received[0] not in map(int, SIGNALS):
            continue
        if _STATE.raised.wait(NOTICE_S) or _STATE.patient:
            continue
        sys.stderr.write(f"stopped by signal {received[0]} within a long computation\n")
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(128 + received[0])


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Convert SIGINT, SIGTERM and SIGHUP to `Stopped` in the main thread during the block.

    Signals that the caller ignores, as `nohup` does, stay ignored. Nested blocks and other threads
    change nothing.
    """
    if _STATE.installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    _STATE.install()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {s: signal.getsignal(s) for s in SIGNALS}
    caught = [s for s, handler in before.items() if handler is not signal.SIG_IGN]
    previous_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_end_if_unnoticed, args=[reading], daemon=True)
    watcher.start()
    for number in caught:
        signal.signal(number, _handle)
    _STATE.unraisable, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        yield
    finally:
        sys.unraisablehook = _STATE.unraisable
        for number in caught:
            signal.signal(number, before[number] or signal.SIG_DFL)
        signal.set_wakeup_fd(previous_wakeup)
        os.close(writing)  # ends the watcher
        watcher.join()
        os.close(reading)
        _STATE.installed, _STATE.pending = False, 0


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Let a long library call in the block finish, as while an arm has to be stopped.

    A `deferred_stop` inside the block holds a signal back without a time limit.
    """
    before, _STATE.patient = _STATE.patient, True
    try:
        yield
    finally:
        _STATE.patient = before


@contextlib.contextmanager
def deferred_stop() -> Iterator[Callable[[], int]]:
    """Hold a first signal back so that the block can finish what it is doing.

    The block asks the yielded function, which returns the number of the signal that waits, or 0,
    and passes it to `stop`. A signal that waits longer than `DEFER_S`, or a second one, raises
    `Stopped` at once; inside `patient`, only a second Ctrl-C does.

    Yields:
        The function.
    """
    before, _STATE.deferring = _STATE.deferring, _STATE.installed
    try:
        yield lambda: _STATE.pending
    finally:
        _STATE.deferring = before
        if _STATE.pending and not before and sys.exc_info()[0] is None:
            stop(_STATE.pending)


def leave(status: int) -> None:
    """End the process at once if a signal ended its command; otherwise return.

    Taking down PyTorch and waiting for threads that still read data would take longer.
    """
    if status not in {128 + int(number) for number in SIGNALS}:
        return
    timer = threading.Timer(EXIT_S, os._exit, [status])
    timer.daemon = True
    timer.start()
    logging.shutdown()
    atexit._run_exitfuncs()  # noqa: SLF001 - what was registered to clean up: temporary folders
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
