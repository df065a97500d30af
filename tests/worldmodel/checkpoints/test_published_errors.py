"""Broken, foreign and hostile checkpoint files: every one a clear error, nothing run."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.checkpoint import load_published
from worldmodel.errors import CheckpointError, ConfigError

GOLDEN = Path(__file__).parents[2] / "golden"
V2_FILE = GOLDEN / "vjepa2_pretrain_layout.pt"


@pytest.fixture
def content():
    return torch.load(V2_FILE, weights_only=True)


def saved(tmp_path, content):
    torch.save(content, tmp_path / "file.pt")
    return tmp_path / "file.pt"


def load(path, part="encoder", **options):
    return load_published(path, part, **({"num_heads": 2, "image_size": 64} | options))


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("encoder", "norm.bias"),
        ("encoder", "blocks.1.attn.qkv.weight"),
        ("encoder", "patch_embed.proj.weight"),
        ("predictor", "predictor_norm.weight"),
        ("predictor", "mask_tokens.1"),
    ],
)
def test_a_missing_key_is_named(tmp_path, content, part, key):
    del content[part][f"module.backbone.{key}"]
    with pytest.raises(CheckpointError, match=key):
        load(saved(tmp_path, content), part)


@pytest.mark.parametrize("key", ["state_encoder.bias", "extrinsics_encoder.weight"])
def test_a_2ac_file_must_hold_all_its_encoders(tmp_path, key):
    content = torch.load(GOLDEN / "vjepa2_ac_layout.pt", weights_only=True)
    del content["predictor"][f"module.{key}"]
    with pytest.raises(CheckpointError, match=key):
        load(saved(tmp_path, content), "predictor")


def test_an_unexpected_key_is_named(tmp_path, content):
    content["encoder"]["module.backbone.blocks.0.attn.surprise"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"unexpected keys .*attn\.surprise"):
        load(saved(tmp_path, content))


def test_a_wrong_shape_is_named(tmp_path, content):
    content["encoder"]["module.backbone.blocks.2.mlp.fc2.weight"] = torch.zeros(64, 100)
    with pytest.raises(CheckpointError, match=r"blocks\.2\.mlp\.fc2\.weight \(64, 100\)"):
        load(saved(tmp_path, content))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_a_wrong_dtype_is_named(tmp_path, content, dtype):
    key = "module.backbone.norm.weight"
    content["encoder"][key] = content["encoder"][key].to(dtype)
    with pytest.raises(CheckpointError, match=r"norm\.weight.*float32"):
        load(saved(tmp_path, content))


def test_heads(tmp_path):
    with pytest.raises(ConfigError, match="pass num_heads"):
        load_published(V2_FILE, "encoder")
    with pytest.raises(ConfigError, match=r"num_heads=3 does not divide.*64.*qkv"):
        load_published(V2_FILE, "encoder", num_heads=3)
    with pytest.raises(ConfigError, match="does not divide"):
        load_published(GOLDEN / "probe_layout.pt", "probe", num_heads=7)


@pytest.mark.parametrize(
    ("file", "part", "rope"),
    [
        ("vjepa2_pretrain_layout.pt", "encoder", "interleaved"),
        ("vjepa2_pretrain_layout.pt", "predictor", "interleaved"),
        ("vjepa2_ac_layout.pt", "predictor", "interleaved"),
        ("vjepa21_layout.pt", "encoder", "tiled"),
        ("vjepa21_layout.pt", "predictor", "tiled"),
        ("vjepa1_layout.pth.tar", "encoder", "tiled"),
        ("vjepa1_layout.pth.tar", "encoder", "interleaved"),
        ("probe_layout.pt", "probe", "tiled"),
    ],
)
def test_a_contradicting_rotary_layout(file, part, rope):
    with pytest.raises(ConfigError, match=r"leave (rope|it) out"):
        load(GOLDEN / file, part, rope=rope)


@pytest.mark.parametrize(
    ("file", "rope"), [("vjepa2_pretrain_layout.pt", "tiled"), ("vjepa21_layout.pt", "interleaved")]
)
def test_the_familys_own_layout_may_be_said(file, rope):
    assert load(GOLDEN / file, rope=rope).config.rope == rope


class Bomb:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_a_pickle_that_runs_code_is_refused_before_anything_runs(tmp_path, content, how):
    victim, file = tmp_path / "ran", tmp_path / "file.pt"
    content["opt"] = Bomb(victim)
    if how == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match="refused before anything ran"):
        load(file)
    assert not victim.exists()


def test_numpy_numbers_beside_the_weights_are_harmless(tmp_path, content):
    content |= {"loss": np.float64(0.4), "epoch": np.int64(3)}
    load(saved(tmp_path, content))


def test_the_old_torch_format_loads(tmp_path, content):
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    load(tmp_path / "old.pt")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_torch_files(tmp_path, share):
    whole = V2_FILE.read_bytes()
    file = tmp_path / "torn.pt"
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="damaged" if share else "is empty"):
        load(file)


@pytest.mark.parametrize(
    "junk", [b"", b"not a model", b"PK\x03\x04junk", b"{" * 40, bytes(range(99))]
)
def test_files_that_are_no_models(tmp_path, junk):
    file = tmp_path / "junk.pt"
    file.write_bytes(junk)
    with pytest.raises(CheckpointError):
        load(file)


def test_parts_that_are_not_there(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"no probe.*encoder, target_encoder, predictor"):
        load(V2_FILE, "probe")
    with pytest.raises(ConfigError, match="known: encoder"):
        load(V2_FILE, "decoder")
    with pytest.raises(CheckpointError, match="No file"):
        load(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match="not a dictionary"):
        load(saved(tmp_path, [1, 2]))
    with pytest.raises(CheckpointError, match="not a tensor"):
        load(saved(tmp_path, {"encoder": {"module.norm.weight": [1.0]}}))
    with pytest.raises(CheckpointError, match="not a dictionary of tensors"):
        load(saved(tmp_path, {"encoder": 3}))
    with pytest.raises(CheckpointError, match="empty list"):
        load(saved(tmp_path, {"classifiers": []}), "probe")
