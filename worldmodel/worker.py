"""What a worker process of `worldmodel.processes` does: it runs jobs, and ends with its parent."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from worldmodel.shutdown import AGAIN_S, SIGNALS

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


@dataclass(frozen=True)
class Failure:
    """An exception of a job, on its way to the parent."""

    error: Exception
    text: str
    """Traceback in the worker."""


@dataclass
class _Leaving:
    """Whether this worker process was asked to end, also if its job caught the exception."""

    asked: bool = False


_LEAVING = _Leaving()


def _leave(number: int, _: object) -> None:
    _LEAVING.asked = True
    raise SystemExit(128 + number)


def _leave_again(found: UnraisableHookArgs) -> None:
    """Leave a moment later if Python dropped the exception of `_leave`, as in a weak reference."""
    if not isinstance(found.exc_value, SystemExit):
        sys.__unraisablehook__(found)
        return
    main = threading.main_thread().ident or 0
    timer = threading.Timer(AGAIN_S, signal.pthread_kill, [main, signal.SIGTERM])
    timer.daemon = True
    timer.start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _failure(error: Exception | SystemExit) -> Failure:
    """Return an exception for the parent; what it says if it cannot be pickled or rebuilt."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):  # of a job's own code; it must not end the parent silently
        error = RuntimeError(f"SystemExit: {error}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickling runs code of any class
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Failure(error, text)


def _send(pipe: Connection, message: object) -> None:
    try:
        pipe.send(message)
    except (BrokenPipeError, ConnectionResetError):
        raise SystemExit(1) from None  # the parent has closed the pool
    except Exception as error:  # noqa: BLE001 - pickling runs code of any class
        pipe.send(_failure(error))


def work(
    function: Callable[[Any], object],
    pipe: Connection,
    start: Callable[..., None] | None,
    args: tuple[object, ...],
) -> None:
    """Run jobs until the parent closes the pipe or ends.

    Args:
        function: Maps a job to its result.
        pipe: Connection that receives jobs. It sends None when the worker is ready, then for each
            job a tuple of its result, or a `Failure`.
        start: Called with `args` before the first job.
        args: Arguments of `start`.
    """
    # A forked worker must not finalise the parent's garbage: a video scaler, for one, would wait
    # for threads that only the parent has.
    gc.freeze()
    gc.enable()
    signal.set_wakeup_fd(-1)  # a forked worker inherits the parent's handlers
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    sys.unraisablehook = _leave_again
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if start is not None:
            start(*args)
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        _send(pipe, _failure(error))
        return
    _send(pipe, None)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            result = function(job)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again in the parent
            answer: object = _failure(error)
        else:
            answer = (result,)
        if _LEAVING.asked:
            raise SystemExit(1)
        _send(pipe, answer)
