"""The hub's own client against a local server that answers as Hugging Face does."""

import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

BODY = bytes(range(256)) * 8000
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
import sys; from pathlib import Path
from worldmodel.checkpoints.hub import cached_path, fetch_from_hub
from worldmodel.errors import DownloadError
try:
    path = fetch_from_hub("facebook/tiny", sys.argv[1], Path("/cache/tiny") / sys.argv[1])
    assert cached_path("facebook/tiny", sys.argv[1]) == path
    print(path)
except DownloadError as error:
    print("error:", error)
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers HEAD and GET of a repository's files, or the refusal that the server is told."""

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(BODY[::-1] if self.server.sends_other else BODY)

    def answer(self, body):
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append((self.command, asked))
        if server.refusal:
            status, code = server.refusal
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if asked and asked.removeprefix("bytes=").split("-")[0].isdigit():
            start = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("ETag", f'"{hashlib.sha256(BODY).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        self.wfile.write(body[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.refusal, server.sends_other = [], None, False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.home = tmp_path / "hf"
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def fetch(hub, file="model.safetensors", **environment):
    """Fetch in a fresh process: the client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(hub.home)} | environment
    settings |= {"HF_HUB_ETAG_TIMEOUT": "5", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-c", CODE, file],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_a_file_is_fetched_once_into_the_hubs_own_cache(hub):
    path = fetch(hub)
    assert path.startswith(str(hub.home))
    assert path.endswith(f"{COMMIT}/model.safetensors")
    assert Path(path).read_bytes() == BODY
    fetched = [command for command, _ in hub.seen].count("GET")
    assert fetch(hub) == path
    assert [command for command, _ in hub.seen].count("GET") == fetched
    assert fetch(hub, HF_HUB_OFFLINE="1") == path


def test_other_content_of_equal_length_is_refused(hub):
    hub.sends_other = True
    said = fetch(hub)
    assert "has checksum" in said
    assert "put it at /cache/tiny/model.safetensors" in said
    hub.sends_other = False
    assert Path(fetch(hub)).read_bytes() == BODY


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, "EntryNotFound"), "moved, or access was denied"),
        ((404, "RepoNotFound"), "moved, or access was denied"),
        ((403, "GatedRepo"), "accept it at https://huggingface.co/facebook/tiny"),
    ],
)
def test_refusals_say_what_to_do(hub, refusal, words):
    hub.refusal = refusal
    said = fetch(hub)
    assert words in said
    assert "put it at /cache/tiny/model.safetensors" in said


def test_without_a_network_the_message_says_which_file_to_put_where(hub):
    place = "huggingface.co/facebook/tiny/resolve/main/config.json elsewhere and put it at /cache"
    said = fetch(hub, "config.json", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in said
    assert place in said
    hub.refusal = (403, "")  # a proxy that forbids
    said = fetch(hub, "config.json")
    assert "cannot be reached (403 Forbidden" in said
    assert place in said


def closed_port():
    """Address of a port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"


BACKBONE = """
import sys
from worldmodel.checkpoints.backbones import load_transformers_encoder
from worldmodel.errors import CheckpointError
try:
    load_transformers_encoder("facebook/dinov2-small")
except CheckpointError as error:
    print("error:", error)
"""


@pytest.mark.parametrize("code", [CODE, BACKBONE])
def test_without_a_connection_nothing_is_tried_again(code, tmp_path):
    if code is BACKBONE:
        pytest.importorskip("transformers")
    settings = {"HF_ENDPOINT": closed_port(), "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, "config.json"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no connection" in done.stdout
    assert "Retrying" not in done.stderr


def test_cached_files_are_read_without_a_connection(hub):
    path = fetch(hub)
    hub.address = closed_port()
    assert fetch(hub) == path
