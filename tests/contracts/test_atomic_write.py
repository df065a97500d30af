"""Files of `planning` and of `worldmodel` are written completely or not at all, in the same way."""

import errno
import json
import resource
import signal
from pathlib import Path

import pytest

import planning.atomic_write
import worldmodel.atomic_io

WRITERS = [planning.atomic_write, worldmodel.atomic_io]


@pytest.fixture
def _small_files():
    """Limit the size of files, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.usefixtures("_small_files")
def test_a_full_disk_is_named_and_the_old_content_stays(tmp_path, writer):
    path = tmp_path / "new" / "page.html"
    writer.write_text(path, "old")
    with pytest.raises(OSError, match=r"page\.html") as full:
        writer.write_bytes(path, bytes(10_000_000))
    assert full.value.errno == errno.EFBIG
    assert Path(full.value.filename) == path
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_in_the_way_is_named(tmp_path, writer):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError, match=r"page\.html") as refused:
        writer.write_text(tmp_path / "page.html", "text")
    assert Path(refused.value.filename) == tmp_path / "page.html"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("writer", WRITERS)
def test_numbers_that_are_not_finite_become_null(writer):
    value = {"energy": float("nan"), "steps": [1, float("inf")], "name": "NaN"}
    wanted = {"energy": None, "steps": [1, None], "name": "NaN"}
    for indent in (None, 2):
        text = writer.json_text(value, indent=indent)
        assert json.loads(text, parse_constant=pytest.fail) == wanted
    assert writer.json_text({"a": 1}) == '{"a": 1}'
    with pytest.raises(TypeError):
        writer.json_text({"a": object()})
