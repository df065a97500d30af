"""A handle means its process and no other, also in another process and after its end."""

import multiprocessing
import subprocess
import sys

import pytest

from robot.safety.process_handle import ProcessHandle

CONTEXT = multiprocessing.get_context("spawn")


def sleeper():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def _kill(handle):
    handle.kill()


def test_a_handle_travels_to_a_spawned_process():
    process = sleeper()
    handle = ProcessHandle(process.pid)
    assert handle.is_alive
    killer = CONTEXT.Process(target=_kill, args=(handle,))
    killer.start()
    assert process.wait(timeout=60) == -9
    killer.join()
    assert not handle.is_alive
    handle.close()
    handle.close()


def test_the_number_of_a_process_that_ended_reaches_nobody():
    process = sleeper()
    handle = ProcessHandle(process.pid)
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        handle.kill()
    handle.close()
