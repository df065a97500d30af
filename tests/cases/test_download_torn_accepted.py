"""No answer without a proof of its end is put in place as a whole file."""

import pytest

from tests.worldmodel.checkpoints.bad_server import serve
from worldmodel.checkpoints.download import Remote, fetch
from worldmodel.errors import DownloadError


@pytest.mark.parametrize("name", ["torn_chunk", "closed", "closed_empty", "no_content"])
def test_held(name, tmp_path):
    with serve() as server, pytest.raises(DownloadError):
        fetch(Remote("m", f"{server.url}/{name}"), tmp_path / "m.pt")
    assert not (tmp_path / "m.pt").exists()
