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
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, cast

from worldmodel.errors import WorldModelError
from worldmodel.shutdown import SIGNALS, deferred_stop
from worldmodel.worker import Failure, work

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
            target=work, args=(function, theirs, start, args), daemon=True
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
        if isinstance(message, Failure):
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
