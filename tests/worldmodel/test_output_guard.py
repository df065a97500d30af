"""One run in an output folder: the lock names its owner, and locks of dead runs are taken over."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldmodel.output_guard import OutputInUseError, Owner, lock_path, output_guard

HOLD = """
import sys, time
from pathlib import Path
from worldmodel.output_guard import output_guard
with output_guard(Path(sys.argv[1]), is_file=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(out: Path, *more: str) -> subprocess.Popen:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "held\n"
    return child


@pytest.mark.parametrize("is_file", [False, True])
def test_a_second_run_is_refused_with_the_first_ones_name(tmp_path, is_file):
    out = tmp_path / "a" / "out.h5"
    child = hold(out, *["file"] * is_file)
    with pytest.raises(OutputInUseError) as refused, output_guard(out, is_file=is_file):
        pass
    for part in (str(out), f"process {child.pid}", socket.gethostname(), "choose another out="):
        assert part in str(refused.value)
    child.communicate()
    with output_guard(out, is_file=is_file):
        assert json.loads(lock_path(out, is_file=is_file).read_text())["pid"] == os.getpid()
    assert not lock_path(out, is_file=is_file).exists()


def test_a_lock_of_a_killed_run_is_taken_over(tmp_path):
    child = hold(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert lock_path(tmp_path).exists()
    with output_guard(tmp_path):
        assert json.loads(lock_path(tmp_path).read_text())["pid"] == os.getpid()


def write_lock(out: Path, **changes: object) -> Path:
    with output_guard(out):
        owner = json.loads(lock_path(out).read_text())
    out.mkdir(exist_ok=True)
    lock_path(out).write_text(json.dumps(owner | changes))
    return lock_path(out)


def test_a_lock_whose_process_number_was_given_again_is_stale(tmp_path):
    write_lock(tmp_path, pid=os.getppid(), started="long ago")
    with output_guard(tmp_path):
        pass


def test_a_lock_of_another_machine_is_stale_when_it_is_no_longer_renewed(tmp_path):
    path = write_lock(tmp_path, host="another-machine")
    with pytest.raises(OutputInUseError, match="another-machine"), output_guard(tmp_path):
        pass
    lock = path.read_text()
    for hours in (-1, 1):  # the future: that machine's clock was set back
        path.write_text(lock)
        then = time.time() + hours * 3600
        os.utime(path, (then, then))
        with output_guard(tmp_path):
            pass


@pytest.mark.parametrize("text", ["", '{"pid": 1', "[]", '{"pid": 1}'])
def test_a_torn_lock_is_stale(tmp_path, text):
    lock_path(tmp_path).write_text(text)
    with output_guard(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("entry", [{"pid": "1"}, {"host": []}, {"command": "\x1b[31m"}])
def test_an_odd_lock_is_stale(tmp_path, entry):
    owner = Owner(os.getpid(), "another-machine", "0", "today", "train")
    lock_path(tmp_path).write_text(json.dumps({**dataclasses.asdict(owner), **entry}))
    with output_guard(tmp_path):
        pass


@pytest.mark.parametrize("make", [os.mkfifo, lambda lock: lock.symlink_to(lock.with_name("kept"))])
def test_a_lock_that_is_no_file_is_refused_and_a_link_not_followed(tmp_path, make):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    make(lock_path(tmp_path))
    with pytest.raises(OSError, match=r"delete it.*\.lock"), output_guard(tmp_path):
        pass
    assert kept.read_text() == "kept"


def test_a_run_that_wrote_nothing_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), output_guard(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with output_guard(tmp_path / "a"):
        (tmp_path / "a" / "result").touch()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["result"]


def test_a_guard_inside_another_changes_nothing(tmp_path):
    with output_guard(tmp_path):
        with output_guard(tmp_path):
            pass
        assert lock_path(tmp_path).exists()


def test_of_many_that_start_at_once_one_holds_the_lock(tmp_path):
    write_lock(tmp_path, pid=os.getppid(), started="long ago")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    # those refused end by themselves; the one that holds the lock waits for its input
    firsts = [child.stdout.readline() for child in children]
    assert sorted(firsts) == ["", "", "", "held\n"]
    for child in children:
        child.communicate()


def test_an_owner_is_alive_only_with_its_own_start_time(tmp_path):
    with output_guard(tmp_path):
        owner = Owner(**json.loads(lock_path(tmp_path).read_text()))
    assert owner.alive
    assert not dataclasses.replace(owner, started="0").alive
    assert not dataclasses.replace(owner, host="elsewhere").alive
