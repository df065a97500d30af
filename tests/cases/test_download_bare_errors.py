"""Odd answers and torn notes end in a DownloadError or a whole file, never in a bare error."""

import pytest

from tests.worldmodel.checkpoints.bad_server import BODY, serve
from worldmodel.checkpoints.download import Remote, fetch
from worldmodel.errors import DownloadError


@pytest.mark.parametrize("name", ["no_range", "length_abc"])
def test_odd_answers(name, tmp_path):
    with serve() as server, pytest.raises(DownloadError):
        fetch(Remote("m", f"{server.url}/{name}"), tmp_path / "m.pt")


@pytest.mark.parametrize("notes", ['{"url": "ht', "[1]"])
def test_torn_notes(notes, tmp_path):
    (tmp_path / "m.pt.part.json").write_text(notes)
    with serve() as server:
        path = fetch(Remote("m", f"{server.url}/whole"), tmp_path / "m.pt")
    assert path.read_bytes() == BODY
