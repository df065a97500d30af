"""A file or folder appears complete or not at all, whatever ends the writer."""

import errno
import json
import signal
import subprocess
import sys
import threading

import pytest

from worldmodel.atomic_io import atomic_file, atomic_folder, is_temporary, write_json, write_text


def interrupted(writer, name):
    with writer as part:
        (part / name).write_text("half")
        raise KeyboardInterrupt


def test_a_failed_write_keeps_the_old_content_and_leaves_no_parts(tmp_path):
    path = tmp_path / "new" / "summary.json"
    write_json(path, {"steps": 3})
    assert json.loads(path.read_text()) == {"steps": 3}
    with pytest.raises(TypeError):
        write_json(path, {"steps": object()})
    with pytest.raises(KeyboardInterrupt):
        interrupted(atomic_file(path), "")
    assert json.loads(path.read_text()) == {"steps": 3}
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"]


def test_a_folder_appears_with_all_its_files_or_not_at_all(tmp_path):
    path = tmp_path / "episode"
    with pytest.raises(KeyboardInterrupt):
        interrupted(atomic_folder(path), "a")
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(path) as part:
        assert is_temporary(part / "inner" / "b")
        (part / "inner").mkdir()
        (part / "inner" / "b").write_text("b")
        assert not path.exists()
    assert (path / "inner" / "b").read_text() == "b"
    with pytest.raises(FileExistsError), atomic_folder(path) as part:
        (part / "c").write_text("c")
    assert [p.name for p in tmp_path.iterdir()] == ["episode"]


def test_numbers_that_json_lacks_become_null(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [float("nan"), 1.5], "b": float("inf"), 3: -float("inf")})
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found == {"a": [None, 1.5], "b": None, "3": None}


def test_two_writers_of_one_path_never_mix(tmp_path):
    path = tmp_path / "log.txt"
    texts = [letter * 200_000 for letter in "abcd"]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_killed_leaves_the_old_content(tmp_path):
    path = tmp_path / "state.txt"
    write_text(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from worldmodel.atomic_io import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as part:\n"
        "    part.write_text('new')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "newer")
    assert path.read_text() == "newer"


def fail(path, error):
    with atomic_folder(path):
        raise error


def test_an_error_that_names_no_file_names_the_folder(tmp_path):
    path = tmp_path / "episode"
    with pytest.raises(OSError, match=r"No space left.*episode"):
        fail(path, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(FileNotFoundError, match="source"):
        fail(path, FileNotFoundError(errno.ENOENT, "No such file", "source"))
    assert list(tmp_path.iterdir()) == []
