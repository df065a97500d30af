"""A payload that does not fit its checksum is not yielded."""

import pytest

from tests.worldmodel.data.other_layouts import framed
from worldmodel.data.episode import EpisodeError
from worldmodel.data.readers.tfrecord import read_records


def test_the_changed_payload_is_refused(tmp_path):
    path = tmp_path / "x.tfrecord"
    path.write_bytes(framed(b"payload"))
    assert list(read_records(path)) == [b"payload"]
    path.write_bytes(framed(b"payload").replace(b"payload", b"paYload"))
    with pytest.raises(EpisodeError, match="checksum"):
        list(read_records(path))
