"""The checksum that the hub announces on its redirect is compared with what the storage sends."""

import pytest

from tests.worldmodel.checkpoints.bad_server import BODY, serve
from worldmodel.checkpoints.download import Remote, fetch
from worldmodel.errors import DownloadError


def test_other_bytes_of_equal_length_are_refused(tmp_path):
    with serve() as server:
        with pytest.raises(DownloadError, match="checksum"):
            fetch(Remote("m", f"{server.url}/linked_other"), tmp_path / "m.safetensors")
        path = fetch(Remote("m", f"{server.url}/redirected"), tmp_path / "m.safetensors")
    assert path.read_bytes() == BODY
