"""Models as folders and repositories of Hugging Face, with the hub's own client."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import worldmodel
from planning.cli.app import main
from tests.worldmodel.checkpoints.small_hub import COMMIT, small_hub
from worldmodel.checkpoints import pretrained
from worldmodel.checkpoints.io import networks
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ObservationSpec

GOLDEN = Path(__file__).parents[2] / "golden"
CLI = [sys.executable, "-m", "worldmodel"]
CLOSED = "http://127.0.0.1:9"
"""Address at which nothing listens."""
LOAD = """
import sys, worldmodel
for name in sys.argv[1:]:
    try:
        print(type(worldmodel.from_pretrained(name)).__name__)
    except RuntimeError as error:
        print(" ".join(str(error).split()))
"""


def small_world():
    torch.manual_seed(0)
    encoder = EncoderConfig(
        image_size=(32, 32),
        patch_size=16,
        num_frames=1,
        tubelet_size=1,
        embed_dim=32,
        depth=1,
        num_heads=2,
    )
    predictor = PredictorConfig(grid=(2, 2), encoder_dim=32, embed_dim=32, depth=1, num_heads=2)
    observation = ObservationSpec(image_size=(32, 32), frames_per_token=1)
    config = ModelConfig(encoder=encoder, predictor=predictor, observation=observation)
    return WorldModel.from_config(config).eval()


def equal(one, other):
    parts = networks(one), networks(other)
    states = [{k + n: v for k, m in p.items() for n, v in m.state_dict().items()} for p in parts]
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def run(words, hub, home, **more):
    """Run in a fresh process: the client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_ETAG_TIMEOUT": "5"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": "hf_test"} | more
    return subprocess.run(
        words, env={**os.environ, **settings}, cwd=home, capture_output=True, text=True
    )


def test_a_folder_gives_the_model_back(tmp_path):
    world = small_world()
    notes = {"data": "ten | episodes"}
    folder = worldmodel.save_pretrained(world, tmp_path / "m", notes=notes, licence="mit")
    again = worldmodel.load(folder)
    assert equal(world, again)
    assert again.config == world.config
    assert worldmodel.load_encoder(folder).config == world.encoder.config
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert 'license: "mit"' in card
    assert "data: ten / episodes" in card
    assert "7 numbers, one every 0.25 s" in card
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "worldmodel"
    assert config["notes"] == notes


def damage(folder, how):
    weights, config = folder / "model.safetensors", folder / "config.json"
    values = json.loads(config.read_text())
    content = bytearray(weights.read_bytes())
    if how == "bit":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif how == "cut":
        weights.write_bytes(content[:-4])
    elif how == "gone":
        weights.unlink()
    elif how == "other model":
        values["config"]["predictor"]["depth"] = 2
    elif how == "other file":
        values["files"]["../model.py"] = {"size": 1, "sha256": "0"}
    elif how == "no list":
        values["files"] = ["model.safetensors"]
    config.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("bit", "differs from the SHA-256"),
        ("cut", "bytes, config.json says"),
        ("gone", "is missing"),
        ("other model", "describes another model"),
        ("other file", "lists the files"),
        ("no list", "lists the files"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, how, words):
    folder = pretrained.save_pretrained(small_world(), tmp_path / "m")
    damage(folder, how)
    with pytest.raises(CheckpointError, match=words):
        worldmodel.load(folder)


def test_names_of_repositories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parse = pretrained.parse_repository
    assert parse("user/model") == pretrained.Repository("user/model", "main")
    assert parse("user/model-2.1@v1.0") == pretrained.Repository("user/model-2.1", "v1.0")
    for name in ("default", "a/b/c", "../b", "user/..", "user/m.safetensors", "/a/b", "user/"):
        assert parse(name) is None, name
    (tmp_path / "runs").mkdir()
    assert parse("runs/train") is None  # a path that was mistyped, not a repository
    with pytest.raises(ConfigError, match="not a repository"):
        pretrained.push_folder(tmp_path, "model")


def test_published_downloaded_and_read_from_the_cache(tmp_path):
    with small_hub() as hub:
        source = pretrained.save_pretrained(small_world(), tmp_path / "source")
        words = [f"model={source}", f"out={tmp_path / 'out'}", "repo=user/tiny", "private=true"]
        done = run([*CLI, "publish", *words], hub.address, tmp_path, HF_HUB_DISABLE_XET="1")
        assert done.returncode == 0, done.stderr
        assert f"/commit/{COMMIT}" in done.stdout
        assert len(hub.created) == 1
        assert "private" in str(hub.created[0])
        names = {name for _, _, name in hub.files}
        assert names == {"config.json", "model.safetensors", "README.md"}
        assert b'load_world_model("user/tiny")' in hub.files["user/tiny", "main", "README.md"]
        for name in names:
            content = hub.files["user/tiny", "main", name]
            hub.files["user/swapped", "main", name] = content
            hub.files["user/tiny", "v2", name] = content
        hub.swapped = "user/swapped"
        load = ["user/tiny", "user/tiny@v2", "user/tiny@v3", "user/other", "user/swapped"]
        said = run([sys.executable, "-c", LOAD, *load], hub.address, tmp_path).stdout.splitlines()
    assert said[:2] == ["WorldModel", "WorldModel"]
    assert "user/tiny/resolve/v3/config.json moved, or access was denied" in said[2]
    assert "No model 'user/other': there is no such file or folder here" in said[3]
    assert "has checksum" in said[4]

    lay_out_cache(tmp_path / "hub", "models--user--by-hand")
    damage(lay_out_cache(tmp_path / "hub", "models--user--cut"), "cut")
    load = ["user/tiny", "user/by-hand", "user/cut", "user/other"]
    said = run([sys.executable, "-c", LOAD, *load], CLOSED, tmp_path).stdout.splitlines()
    assert said[:2] == ["WorldModel", "WorldModel"]
    assert "bytes, config.json says" in said[2]
    assert "no connection" in said[3]


def lay_out_cache(root, name):
    """Write a model where the hub's client looks for it: refs/main names a folder of a commit."""
    snapshot = root / name / "snapshots" / COMMIT
    pretrained.save_pretrained(small_world(), snapshot)
    (root / name / "refs").mkdir()
    (root / name / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_refused_upload_keeps_the_folder_and_names_the_login(tmp_path):
    with small_hub() as hub:
        hub.refusal = 403
        source = pretrained.save_pretrained(small_world(), tmp_path / "source")
        words = [f"model={source}", f"out={tmp_path / 'out'}", "repo=user/tiny"]
        done = run([*CLI, "publish", *words], hub.address, tmp_path)
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
    assert worldmodel.load(tmp_path / "out")


def test_v_jepa_2_ac_is_converted_into_this_format(tmp_path, capsys):
    source = tmp_path / "ac.safetensors"
    heads = [
        "num_heads=2",
        "predictor_heads=2",
        "image_size=64",
    ]  # those of the real size are known
    assert (
        main(["convert", f"source={GOLDEN / 'vjepa2_ac_layout.pt'}", f"out={source}", *heads]) == 0
    )
    words = ["publish", f"model={source}", f"out={tmp_path / 'out'}", "dtype=bfloat16"]
    assert main(words) == 0
    assert "model.safetensors" in capsys.readouterr().out
    before, after = worldmodel.load(source, "cpu"), worldmodel.load(tmp_path / "out", "cpu")
    assert before.config == after.config
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(one.bfloat16().float(), other), name
