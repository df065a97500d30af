"""Published names against a local server: resume, truncation, wrong checksum, 404, offline."""

import dataclasses
import hashlib
import http.server
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
import torch

import worldmodel
from worldmodel.checkpoint import load, load_any
from worldmodel.checkpoints import download, registry
from worldmodel.checkpoints.convert import ConvertConfig, convert
from worldmodel.checkpoints.download import Remote, fetch
from worldmodel.checkpoints.http_identity import HEX_SHA256
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.known_files import KNOWN_FILES, KnownFile
from worldmodel.checkpoints.tensor_file import verify_weights
from worldmodel.errors import CheckpointError, ConfigError, DownloadError
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.world_model import WorldModel

GOLDEN = Path(__file__).parents[2] / "golden"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one body; can break off and ignore ranges."""

    def do_GET(self):
        server = self.server
        server.seen.append(self.headers.get("Range"))
        body, start = server.body, 0
        if self.path != "/file.pt":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        if asked and server.ranges and self.headers.get("If-Range", '"1"') == server.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : start + server.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.body, httpd.limit, httpd.ranges = bytes(range(256)) * 4000, 10**9, True
    httpd.etag, httpd.seen = '"1"', []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/file.pt"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def test_fetch_once_then_from_the_cache(server, tmp_path):
    path = tmp_path / "a" / "file.pt"
    for _ in range(2):
        assert fetch(Remote("m", server.url), path).read_bytes() == server.body
    assert server.seen == [None]
    assert {p.name for p in path.parent.iterdir()} == {"file.pt", "file.pt.lock"}


def test_a_line_that_breaks_goes_on_where_it_broke(server, tmp_path):
    server.limit = 400_000
    path = tmp_path / "file.pt"
    assert fetch(Remote("m", server.url), path).read_bytes() == server.body
    assert server.seen == [None, "bytes=400000-", "bytes=800000-"]


def test_what_came_is_kept_for_the_next_run(server, tmp_path):
    server.limit = 100_000
    path = tmp_path / "file.pt"
    with pytest.raises(DownloadError, match=r"300000 of 1024000 bytes.*run it again"):
        fetch(Remote("m", server.url), path)
    assert not path.exists()
    server.limit = 10**9
    assert fetch(Remote("m", server.url), path).read_bytes() == server.body
    assert server.seen[-1] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    server.limit = 100_000
    path = tmp_path / "file.pt"
    with pytest.raises(DownloadError):
        fetch(Remote("m", server.url), path)
    server.limit, server.etag, server.body = 10**9, '"2"', server.body[::-1]
    assert fetch(Remote("m", server.url), path).read_bytes() == server.body


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.limit, server.ranges = 100_000, False
    path = tmp_path / "file.pt"
    with pytest.raises(DownloadError):
        fetch(Remote("m", server.url), path)
    server.limit = 10**9
    assert fetch(Remote("m", server.url), path).read_bytes() == server.body


def test_a_wrong_checksum_is_thrown_away(server, tmp_path):
    remote = Remote("m", server.url, sha256="0" * 64)
    with pytest.raises(DownloadError, match="checksum"):
        fetch(remote, tmp_path / "file.pt")
    assert not list(tmp_path.glob("file.pt*part"))
    right = hashlib.sha256(server.body).hexdigest()
    fetch(dataclasses.replace(remote, sha256=right), tmp_path / "file.pt")


def test_404_and_offline_say_which_file_to_put_where(server, tmp_path):
    path = tmp_path / "file.pt"
    with pytest.raises(DownloadError, match=f"404.*put it at {path}"):
        fetch(Remote("m", server.url + "x"), path)
    with pytest.raises(DownloadError, match=r"cannot be reached.*127\.0\.0\.1:9/f.*put it at"):
        fetch(Remote("m", "http://127.0.0.1:9/f"), path)


def test_a_full_disk_is_said_before(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="make room"):
        fetch(Remote("m", server.url), tmp_path / "file.pt")


def small(file, *, heads, monkeypatch):
    """Let a specimen's sizes have a preset."""
    from worldmodel.checkpoints.published import sizes

    for table in ("ENCODER_HEADS", "AC_HEADS"):
        monkeypatch.setitem(getattr(sizes, table), heads[table][:2], heads[table][2])
    return (GOLDEN / file).read_bytes()


@pytest.fixture
def named(server, tmp_path, monkeypatch):
    """Two published names whose files are the specimens on the local server."""
    heads = {"ENCODER_HEADS": (64, 3, 2), "AC_HEADS": (96, 2, 2)}
    server.body = small("vjepa2_ac_layout.pt", heads=heads, monkeypatch=monkeypatch)
    monkeypatch.setenv("WORLDMODEL_CACHE", str(tmp_path / "cache"))
    ac = dataclasses.replace(
        registry.REGISTRY["vjepa2-ac-vitg"], files=(server.url,), image_size=64
    )
    plain = dataclasses.replace(
        registry.REGISTRY["vjepa2-vitl"], files=(server.url,), image_size=64
    )
    monkeypatch.setitem(registry.REGISTRY, "vjepa2-ac-vitg", ac)
    monkeypatch.setitem(registry.REGISTRY, "vjepa2-vitl", plain)
    return tmp_path


@torch.no_grad()
def test_names_load_fetch_once_and_round_trip(named):
    model = worldmodel.load("vjepa2-ac-vitg", "cpu")
    assert isinstance(model, WorldModel)
    frames = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    z = model.encode(frames)
    imagined = model.unroll(z, torch.zeros(2, 7), torch.zeros(2, 2, 7))
    save(named / "own.safetensors", model)
    again = load(named / "own.safetensors", "cpu")
    assert torch.equal(again.unroll(z, torch.zeros(2, 7), torch.zeros(2, 2, 7)), imagined)
    assert again.config == model.config


@torch.no_grad()
def test_an_encoder_name_encodes_but_cannot_imagine(named):
    model = load_any("vjepa2-vitl", "cpu")
    assert isinstance(model, VideoEncoder)
    clip = torch.randint(256, (1, 4, 64, 96, 3), dtype=torch.uint8)
    assert model.encode_clip(clip).shape == (1, 2 * 4 * 6, 64)
    with pytest.raises(CheckpointError, match="cannot imagine"):
        load("vjepa2-vitl", "cpu")
    save(named / "encoder.safetensors", model)
    assert torch.equal(
        load_any(named / "encoder.safetensors", "cpu").encode_clip(clip), model.encode_clip(clip)
    )


def test_convert_a_name_and_a_file(named):
    out = named / "ac.safetensors"
    done = convert("vjepa2-ac-vitg", out, ConvertConfig(step_seconds=0.5))
    assert done.kept == ["encoder", "predictor"]
    assert any(d.startswith("target_encoder") for d in done.dropped)
    assert load(out, "cpu").action_spec.period_s == 0.5
    done = convert(
        str(GOLDEN / "vjepa1_layout.pth.tar"),
        named / "v1.safetensors",
        ConvertConfig(num_heads=2, part="encoder"),
    )
    assert done.kind == "VideoEncoder"
    assert load_any(named / "v1.safetensors", "cpu").config.encoder.position == "sincos"
    convert(str(GOLDEN / "probe_layout.pt"), named / "p.safetensors", ConvertConfig(num_heads=2))
    assert load_any(named / "p.safetensors", "cpu").config.num_classes == 5
    with pytest.raises(ConfigError, match="neither a file nor a published name"):
        convert("vitl", out, ConvertConfig())


def test_unknown_names_list_the_known(tmp_path):
    with pytest.raises(CheckpointError, match=r"vjepa2\.1-vitG"):
        load("vjepa3")
    with pytest.raises(ConfigError, match="num_heads"):
        load(GOLDEN / "vjepa2_ac_layout.pt")
    with pytest.raises(ConfigError, match="vjepa2-vitl"):
        registry.get("vitl")


def test_the_registry_has_every_family_and_its_licence():
    licences = {name: model.licence for name, model in registry.REGISTRY.items()}
    assert licences["vjepa-vitl16"] == licences["jepa-wms-ac-vitg"] == "CC BY-NC 4.0"
    assert licences["vjepa2-vitg-384"] == "MIT"
    assert 300e6 < registry.num_parameters("vjepa2-vitl") < 310e6
    assert all(m.url.startswith("https://") for m in registry.REGISTRY.values())


def test_known_contents_are_of_published_files(server, tmp_path, monkeypatch):
    models = [*registry.REGISTRY.values(), *registry.PROBES.values()]
    urls = {url for model in models for url in model.files}
    for path, known in KNOWN_FILES.items():
        assert f"{registry.META}/{path}" in urls
        assert HEX_SHA256.fullmatch(known.sha256)
    assert len({known.sha256 for known in KNOWN_FILES.values()}) == len(KNOWN_FILES)
    monkeypatch.setenv("WORLDMODEL_CACHE", str(tmp_path))
    model = dataclasses.replace(registry.REGISTRY["vjepa2-vitl"], files=(server.url,))
    monkeypatch.setitem(registry.REGISTRY, "vjepa2-vitl", model)
    monkeypatch.setattr(registry, "META", server.url.removesuffix("/file.pt"))
    torch.save({"encoder": torch.zeros(9)}, tmp_path / "whole.pt")
    server.body = (tmp_path / "whole.pt").read_bytes()
    whole = hashlib.sha256(server.body).hexdigest()
    for sha256, size, problem in (
        ("0" * 64, None, "checksum"),
        (whole, len(server.body) + 1, "published file has"),
    ):
        monkeypatch.setitem(KNOWN_FILES, "file.pt", KnownFile(sha256, size))
        with pytest.raises(DownloadError, match=problem):
            registry.resolve("vjepa2-vitl")
        assert not registry.local_path("vjepa2-vitl").exists()
    monkeypatch.setitem(KNOWN_FILES, "file.pt", KnownFile(whole, len(server.body)))
    assert registry.resolve("vjepa2-vitl").read_bytes() == server.body


def test_an_archive_proves_its_tensors(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"encoder": torch.arange(4096.0)}, path)
    verify_weights(path)
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    (tensor,) = (entry for entry in entries if entry.filename.endswith("data/0"))
    start = good.index(torch.arange(4096.0).numpy().tobytes())
    for place in range(start, start + tensor.file_size, 997):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(CheckpointError, match=r"checksum of .*data/0"):
            verify_weights(path)
    path.write_bytes(good[:-40])
    with pytest.raises(CheckpointError, match="without its end"):
        verify_weights(path)
