"""Files of `planning` and of `worldmodel` are written completely or not at all, in the same way."""

import errno
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
