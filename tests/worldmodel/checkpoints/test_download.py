"""Downloads from a server that misbehaves: whole with a proof, or an error and no file."""

import json
import os
import time

import pytest

from tests.worldmodel.checkpoints.bad_server import BODY, OTHER, SHA256, serve
from worldmodel.checkpoints.download import Remote, fetch
from worldmodel.checkpoints.patience import Patience
from worldmodel.errors import DownloadError

QUICK = Patience(timeout_s=20, attempts=2)
IMPATIENT = Patience(timeout_s=0.4, window_s=0.4, deadline_s=2, floor_bytes_per_s=1e4, attempts=2)


@pytest.fixture
def server():
    with serve() as running:
        yield running


@pytest.mark.parametrize("name", ["whole", "chunked", "redirected", "amazon"])
@pytest.mark.parametrize("known", [{}, {"sha256": SHA256}, {"size": len(BODY)}])
def test_a_whole_answer_is_put_in_place(server, name, known, tmp_path):
    path = fetch(Remote("m", f"{server.url}/{name}", **known), tmp_path / "m.pt", QUICK)
    assert path.read_bytes() == BODY
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt", "m.pt.lock"}


REFUSED = [
    "torn_chunk",
    "no_last_chunk",
    "negative_chunk",
    "empty_chunked",
    "closed",
    "closed_empty",
    "empty",
    "no_content",
    "accepted",
    "length_abc",
    "length_negative",
    "length_long",
    "two_lengths",
    "linked_size_long",
    "range_long",
    "to_port",
    "to_no_port",
    "to_bracket",
    "to_odd_name",
    "many_headers",
    "long_header",
    "short",
    "no_range",
    "busy",
    "portal",
    "portal_by_redirect",
    "page_as_binary",
    "gzip",
    "part_unasked",
    "loop",
    "to_file",
    "to_ftp",
    "linked_other",
    "linked_size",
    "amazon_other",
    "digest_other",
    "no_http",
    "hangs_up",
]


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_an_error_that_tells_what_to_do(server, name, tmp_path):
    path = tmp_path / "m.pt"
    with pytest.raises(DownloadError, match=rf"/{name}.*put it at {path}"):
        fetch(Remote("m", f"{server.url}/{name}"), path, QUICK)
    assert not path.exists()
    assert fetch(Remote("m", f"{server.url}/whole"), path, QUICK).read_bytes() == BODY


@pytest.mark.parametrize("name", ["closed", "closed_empty", "other"])
@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"size": len(BODY) + 1}])
def test_a_known_proof_is_checked(server, name, known, tmp_path):
    with pytest.raises(DownloadError):
        fetch(Remote("m", f"{server.url}/{name}", **known), tmp_path / "m.pt", QUICK)
    assert not (tmp_path / "m.pt").exists()


@pytest.mark.parametrize(
    "name", ["stall", "silent", "drip", "drip_head", "drip_chunk_size", "endless"]
)
def test_no_server_holds_a_download_for_ever(server, name, tmp_path):
    began_s = time.monotonic()
    with pytest.raises(DownloadError):
        fetch(Remote("m", f"{server.url}/{name}"), tmp_path / "m.pt", IMPATIENT)
    assert time.monotonic() - began_s < 30, "the server would go on for a minute or more"
    assert not (tmp_path / "m.pt").exists()


TAG, NEW = {"ETag": '"1"'}, {"ETag": '"2"'}
TOTAL = len(BODY)
OTHER_CONTENT = {
    "another tag": (TAG, (4000, 206, f"bytes 4000-{TOTAL - 1}/{TOTAL}", NEW)),
    "no tag": (TAG, (4000, 206, f"bytes 4000-{TOTAL - 1}/{TOTAL}", {})),
    "a weak tag": ({"ETag": 'W/"1"'}, (4000, 206, f"bytes 4000-{TOTAL - 1}/{TOTAL}", {})),
    "no tag ever": ({}, (4000, 206, f"bytes 4000-{TOTAL - 1}/{TOTAL}", {})),
    "another date": (
        {"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
        (4000, 206, f"bytes 4000-{TOTAL - 1}/{TOTAL}", {"Last_Modified": "now"}),
    ),
    "another place": (TAG, (4000, 206, f"bytes 5000-{TOTAL - 1}/{TOTAL}", TAG)),
    "another size": (TAG, (4000, 206, f"bytes 4000-{TOTAL}/{TOTAL + 1}", TAG)),
    "no range": (TAG, (4000, 206, "", TAG)),
    "a torn range": (TAG, (4000, 206, "bytes 4000-", TAG)),
    "not satisfiable": (TAG, (TOTAL, 416, f"bytes */{TOTAL}", TAG)),
}


@pytest.mark.parametrize("name", OTHER_CONTENT)
def test_two_contents_are_never_joined(server, name, tmp_path):
    server.first, server.answer = OTHER_CONTENT[name]
    server.breaks, server.then = 1, NEW
    path = fetch(Remote("m", f"{server.url}/resume"), tmp_path / "m.pt", Patience(attempts=3))
    assert path.read_bytes() == OTHER


NOTES = ['{"url": "ht', "[1]", "7", "", '{"url": 5}', '{"size": -1, "url": "URL"}', "[" * 100_000]
NOTES += [
    '{"url": "URL", "size": "x", "etag": "a"}',
    '{"url": "URL", "size": 9000, "etag": "a\\n"}',
]
NOTES += ['{"url": "URL", "size": 9000, "etag": "\\"1\\"", "more": 1}']


@pytest.mark.parametrize("text", NOTES, ids=lambda text: text[:40])
def test_torn_notes_do_not_block_a_download(server, text, tmp_path):
    url = f"{server.url}/whole"
    (tmp_path / "m.pt.part").write_bytes(OTHER[:5000])
    (tmp_path / "m.pt.part.json").write_text(text.replace("URL", url))
    assert fetch(Remote("m", url), tmp_path / "m.pt", QUICK).read_bytes() == BODY


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling link"])
def test_odd_things_in_the_place_of_the_part_are_removed(server, kind, tmp_path):
    part = tmp_path / "m.pt.part"
    if kind == "pipe":
        os.mkfifo(part)
    elif kind == "folder":
        part.mkdir()
    else:
        part.symlink_to(tmp_path / "nowhere")
    url = f"{server.url}/whole"
    note = {"url": url, "size": len(BODY), "etag": '"1"'}
    (tmp_path / "m.pt.part.json").write_text(json.dumps(note))
    assert fetch(Remote("m", url), tmp_path / "m.pt", QUICK).read_bytes() == BODY


def test_a_folder_that_cannot_be_written_is_an_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(Remote("m", f"{server.url}/whole"), tmp_path / "file" / "m.pt", QUICK)


def test_content_that_fails_its_own_check_is_removed(server, tmp_path):
    def verify(path):
        raise ValueError("half a model")

    with pytest.raises(DownloadError, match="half a model"):
        fetch(Remote("m", f"{server.url}/whole", verify=verify), tmp_path / "m.pt", QUICK)
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt.lock"}
