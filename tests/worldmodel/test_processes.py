"""Jobs in worker processes: results, errors, lost workers, and what closing and death leave."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from worldmodel.processes import WorkerLostError, WorkerPool, run_jobs

LONG_S = 600
TIMEOUT_S = 60


def double(number: int) -> int:
    return 2 * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise LookupError("no three here")
    return number


class UnpicklableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_unpicklable(_: int) -> None:
    raise UnpicklableError(1, 2)


def die_first_time(folder: Path) -> str:
    """End this worker in the first attempt of the job, and answer in the second."""
    mark = folder / "first"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second"


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave_at_three(number: int) -> int:
    if number == 3:
        sys.exit(0)
    return number


def go_on_after_anything(folder: Path) -> str:
    """Sleep, and catch what ends it the first time, as code of somebody else may do."""
    first = not list(folder.iterdir())
    (folder / f"{os.getpid()}").touch()
    try:
        if first:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(LONG_S)
    except BaseException:  # noqa: BLE001 - that is what is tested
        return "not the end"
    return "second"


def sleep_and_clean(folder: Path) -> None:
    mark = folder / f"{os.getpid()}"
    mark.touch()
    try:
        time.sleep(LONG_S)
    finally:
        mark.unlink()


def refuse_to_start() -> None:
    raise LookupError("no model here")


def until(condition, what: str):
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_results_come_with_their_jobs_or_in_their_order():
    with WorkerPool(double, 3) as pool:
        assert sorted(pool.unordered(range(20))) == [(n, 2 * n) for n in range(20)]
        assert list(pool.ordered(range(20))) == [2 * n for n in range(20)]
        assert list(pool.ordered([])) == []
    with run_jobs(double, [4, 5], 9) as results:
        assert sorted(results) == [8, 10]


def test_an_error_of_a_job_is_raised_here_with_its_traceback():
    with WorkerPool(fail_at_three, 2) as pool, pytest.raises(LookupError, match="no three") as seen:
        list(pool.ordered(range(5)))
    assert "fail_at_three" in seen.value.__notes__[0]
    with WorkerPool(raise_unpicklable, 1) as pool, pytest.raises(RuntimeError, match="Unpicklable"):
        list(pool.ordered([1]))


def test_code_that_exits_is_an_error_and_no_silent_end():
    with WorkerPool(leave_at_three, 2) as pool, pytest.raises(RuntimeError, match="SystemExit: 0"):
        list(pool.ordered(range(5)))


def test_a_worker_that_is_asked_to_end_does_so_whatever_its_job_catches(tmp_path):
    with WorkerPool(go_on_after_anything, 1) as pool:
        assert list(pool.ordered([tmp_path])) == ["second"]


def test_a_job_whose_worker_is_killed_once_is_done_by_another(tmp_path):
    with WorkerPool(die_first_time, 2) as pool:
        assert list(pool.ordered([tmp_path])) == ["second"]


def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_done():
    with WorkerPool(die_at_three, 2) as pool:
        found = dict(pool.unordered(range(8), lambda job, how: -job if "SIGKILL" in how else 0))
        assert found == {n: n for n in range(8)} | {3: -3}
        with pytest.raises(WorkerLostError, match="SIGKILL"):
            list(pool.ordered(range(8)))


def test_a_worker_killed_from_outside_does_not_hang_the_pool(tmp_path):
    with WorkerPool(sleep_and_clean, 1) as pool:
        results = pool.unordered([tmp_path], lambda _, how: None)

        def kill() -> None:
            for _ in range(2):
                until(lambda: list(tmp_path.iterdir()), "the job begins")
                (mark,) = tmp_path.iterdir()
                mark.unlink()
                os.kill(int(mark.name), signal.SIGKILL)

        child = multiprocessing.get_context("fork").Process(target=kill)
        child.start()
        assert list(results) == [(tmp_path, None)]
        child.join()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_cannot_start_end_the_pool(method):
    with (
        WorkerPool(double, 2, method=method, start=refuse_to_start) as pool,
        pytest.raises(LookupError, match="no model"),
    ):
        list(pool.ordered(range(4)))


def test_closing_lets_a_busy_worker_clean_up_and_leaves_no_process(tmp_path):
    with WorkerPool(sleep_and_clean, 2) as pool:
        running = pool.unordered([tmp_path, tmp_path])
        multiprocessing.get_context("fork").Process(
            target=lambda: (
                until(lambda: len(list(tmp_path.iterdir())) == 2, "both jobs begin"),
                os.kill(os.getppid(), signal.SIGUSR1),
            )
        ).start()
        before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                list(running)
            pids = [int(path.name) for path in tmp_path.iterdir()]
            assert len(pids) == 2
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert list(tmp_path.iterdir()) == []
    assert not any(map(is_running, pids))


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_processes import sleep_and_clean
from worldmodel.processes import WorkerPool
if __name__ == "__main__":
    with WorkerPool(sleep_and_clean, 2, method={method!r}) as pool:
        list(pool.unordered([Path({out!r})] * 2))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, method):
    out, script = tmp_path / "out", tmp_path / "parent.py"
    out.mkdir()
    here = str(Path(__file__).parent)
    script.write_text(PARENT.format(folder=here, method=method, out=str(out)))
    parent = subprocess.Popen([sys.executable, str(script)])
    until(lambda: len(list(out.iterdir())) == 2 or parent.poll() is not None, "both jobs begin")
    pids = [int(path.name) for path in out.iterdir()]
    assert all(map(is_running, pids))
    parent.kill()
    parent.wait()
    until(lambda: not any(map(is_running, pids)), "the workers end")


class WaitsInWorkers:
    """Garbage whose finaliser never returns in a forked worker, as that of a video scaler."""

    def __init__(self) -> None:
        self.me, self.owner = self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.owner:
            time.sleep(LONG_S)


def collect_garbage(number: int) -> int:
    gc.collect()
    return number


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_worker_does_not_finalise_garbage_of_its_parent():
    gc.disable()
    try:
        WaitsInWorkers()
        with WorkerPool(collect_garbage, 2, method="fork") as pool:
            assert list(pool.ordered(range(4))) == [0, 1, 2, 3]
        assert not gc.isenabled()
    finally:
        gc.enable()


class LeavesInCallback:
    """Something whose end sends the signal of a closing pool to its worker."""


def receive_in_callback(_: int) -> None:
    thing = LeavesInCallback()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    del thing
    time.sleep(LONG_S if reference() is None else 0)


def test_a_worker_that_is_told_to_leave_in_a_callback_leaves_without_a_word(capfd):
    with WorkerPool(receive_in_callback, 1) as pool, pytest.raises(WorkerLostError):
        list(pool.unordered([0]))
    assert "Traceback" not in capfd.readouterr().err
