"""Worker processes of all commands: jobs in, results out, and none outlives its parent.

A worker that is killed from outside, or by its decoder, loses only its own job, which runs once
more in a new worker. Workers leave signals of a terminal to their parent, end when it ends, even if
it is killed, and get `GRACE_S` to clean up when the pool closes.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from worldmodel.errors import WorldModelError
from worldmodel.shutdown import AGAIN_S, SIGNALS, deferred_stop

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

J = TypeVar("J")
R = TypeVar("R")
GRACE_S = 0.7
"""Time for workers to clean up when the pool closes, before they are killed [s]."""
ATTEMPTS = 2
"""Number of workers that a job may lose."""
Start = Literal["fork", "spawn"]


def usable_cores() -> int:
    """Return the number of cores that this process may use, which a cluster's job limits."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerLostError(WorldModelError, RuntimeError):
    """Worker processes ended in the middle of a job."""


@dataclass(frozen=True)
class _Failure:
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


def _failure(error: Exception | SystemExit) -> _Failure:
    """Return an exception for the parent; what it says if it cannot be pickled or rebuilt."""
    text = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):  # of a job's own code; it must not end the parent silently
        error = RuntimeError(f"SystemExit: {error}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickling runs code of any class
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return _Failure(error, text)


def _send(pipe: Connection, message: object) -> None:
    try:
        pipe.send(message)
    except (BrokenPipeError, ConnectionResetError):
        raise SystemExit(1) from None  # the parent has closed the pool
    except Exception as error:  # noqa: BLE001 - pickling runs code of any class
        pipe.send(_failure(error))


def _work(
    function: Callable[[Any], object],
    pipe: Connection,
    start: Callable[..., None] | None,
    args: tuple[object, ...],
) -> None:
    """Run jobs until the parent closes the pipe or ends."""
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


@dataclass(eq=False)
class _Worker(Generic[J]):
    """A process and the job that it has."""

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    job: tuple[int, J, int] | None = None
    """Number, job and number of attempts."""

    @property
    def idle(self) -> bool:
        return self.ready and self.job is None

    def ended(self) -> str:
        """Return how the process ended."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit status {code}"
        name = signal.Signals(-code).name
        return f"{name}, perhaps for lack of memory" if -code == signal.SIGKILL else name


class WorkerPool(Generic[J, R]):
    """Context manager that runs a function of one argument in worker processes.

    Args:
        function: Function of a job; picklable for `method="spawn"`.
        workers: Maximum number of processes; they start when there are jobs for them.
        method: How processes start; None for the platform's default.
        start: Called once in each worker before its first job.
        args: Arguments of `start`.
    """

    def __init__(
        self,
        function: Callable[[J], R],
        workers: int,
        *,
        method: Start | None = None,
        start: Callable[..., None] | None = None,
        args: tuple[object, ...] = (),
    ) -> None:
        self._task = (function, start, args)
        self._context = multiprocessing.get_context(method)
        self.size = max(1, workers)
        self._workers: list[_Worker[J]] = []
        self._failed_starts = 0

    def __enter__(self) -> WorkerPool[J, R]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start_worker(self) -> None:
        ours, theirs = self._context.Pipe()
        function, start, args = self._task
        # Process exists in every concrete context, but not in typeshed's base class
        process = cast(Any, self._context).Process(
            target=_work, args=(function, theirs, start, args), daemon=True
        )
        # A signal to the group must not end a worker before its own handlers are in place, and one
        # that another thread receives must not lose a worker that has just started.
        with deferred_stop():
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            collects = gc.isenabled()
            gc.disable()  # until the worker has set aside what it inherits
            try:
                process.start()
                self._workers.append(_Worker(process, ours))
            finally:
                if collects:
                    gc.enable()
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def unordered(
        self, jobs: Iterable[J], lost: Callable[[J, str], R] | None = None
    ) -> Iterator[tuple[J, R]]:
        """Yield each job with its result, as they complete.

        Args:
            jobs: Jobs, started in this order.
            lost: Returns the result of a job whose workers were lost, from the job and how they
                ended; None raises an error instead.

        Raises:
            WorkerLostError: A job lost `ATTEMPTS` workers, or workers end before their first job.
        """
        for _, job, result in self._run(jobs, lost):
            yield job, result

    def ordered(self, jobs: Iterable[J]) -> Iterator[R]:
        """Yield the results in the order of the jobs.

        Raises:
            WorkerLostError: A job lost `ATTEMPTS` workers, or workers end before their first job.
        """
        early: dict[int, R] = {}
        due = 0
        for number, _, result in self._run(jobs, None):
            early[number] = result
            while due in early:
                yield early.pop(due)
                due += 1

    def _run(
        self, jobs: Iterable[J], lost: Callable[[J, str], R] | None
    ) -> Iterator[tuple[int, J, R]]:
        waiting = deque((number, job, 1) for number, job in enumerate(jobs))
        while waiting or any(worker.job for worker in self._workers):
            self._assign(waiting)
            for worker in self._answered():
                found = self._receive(worker, waiting, lost)
                if found is not None:
                    yield found

    def _assign(self, waiting: deque[tuple[int, J, int]]) -> None:
        idle = [worker for worker in self._workers if worker.idle]
        starting = [worker for worker in self._workers if not worker.ready]
        for worker in idle[: len(waiting)]:
            worker.job = waiting.popleft()
            with contextlib.suppress(OSError):  # its end is seen as a lost worker
                worker.pipe.send(worker.job[1])
        room = self.size - len(self._workers)
        for _ in range(min(room, len(waiting) - len(starting))):
            self._start_worker()

    def _answered(self) -> list[_Worker[J]]:
        """Wait for messages or ends of workers that work or start."""
        ready = set(wait([worker.pipe for worker in self._workers]))
        return [worker for worker in self._workers if worker.pipe in ready]

    def _receive(
        self,
        worker: _Worker[J],
        waiting: deque[tuple[int, J, int]],
        lost: Callable[[J, str], R] | None,
    ) -> tuple[int, J, R] | None:
        """Take one message; return a finished job's number, job and result."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker, waiting, lost)
        if isinstance(message, _Failure):
            message.error.add_note(f"In a worker process:\n{message.text}")
            raise message.error
        job, worker.job = worker.job, None
        if job is None or message is None:
            worker.ready, self._failed_starts = True, 0
            return None
        return job[0], job[1], cast(R, message[0])

    def _lost(
        self,
        worker: _Worker[J],
        waiting: deque[tuple[int, J, int]],
        lost: Callable[[J, str], R] | None,
    ) -> tuple[int, J, R] | None:
        """Give the job of a lost worker to a new one, or give it up."""
        self._workers.remove(worker)
        worker.pipe.close()
        how = worker.ended()
        if worker.job is None:
            self._failed_starts += 0 if worker.ready else 1
            if self._failed_starts > ATTEMPTS:
                raise WorkerLostError(f"Worker processes end before their first job ({how})")
            return None
        number, job, attempt = worker.job
        if attempt < ATTEMPTS:
            waiting.appendleft((number, job, attempt + 1))
            return None
        if lost is None:
            raise WorkerLostError(
                f"Job {number} ended {ATTEMPTS} worker processes ({how}): finished work is kept; "
                "use fewer workers= if memory is short, then start the same command again"
            )
        return number, job, lost(job, how)

    def close(self) -> None:
        """End all workers: let those in a job clean up, and kill what is left after `GRACE_S`."""
        workers, self._workers = self._workers, []
        for worker in workers:
            # The signal comes first: a worker whose result was not read yet would leave at the end
            # of the pipe, and the signal would interrupt what it does at its exit.
            if not worker.idle:
                (worker.process.terminate if worker.ready else worker.process.kill)()
            worker.pipe.close()  # an idle worker leaves by itself
        until = time.monotonic() + GRACE_S
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
            worker.process.join()


@contextlib.contextmanager
def run_jobs(
    function: Callable[[J], R],
    jobs: list[J],
    workers: int,
    lost: Callable[[J, str], R] | None = None,
) -> Iterator[Iterator[R]]:
    """Run a function in new processes that share no state with this one.

    Args:
        function: Function of a job.
        jobs: Jobs, started in this order.
        workers: Maximum number of processes.
        lost: As of `WorkerPool.unordered`.

    Yields:
        The results as the jobs complete.
    """
    pool: WorkerPool[J, R] = WorkerPool(function, min(workers, len(jobs)), method="spawn")
    with pool:
        yield (result for _, result in pool.unordered(jobs, lost))
