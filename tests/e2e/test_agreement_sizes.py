"""The agreement script reads sizes that differ from those of the handed folder."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
VJEPA2 = "vjepa2_pretrain_layout.pt"


@pytest.fixture(autouse=True)
def as_a_script(monkeypatch):
    """Import modules of the folder by their plain names, as a script does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in [name for name in sys.modules if name.startswith("agreement")]:
        sys.modules.pop(name)


def results(folder, arrays, files, **config):
    """Run the script on some arrays with other sizes in the JSON file; return the results."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "golden.npz", **arrays)
    facts = json.loads((GOLDEN / "golden.json").read_text("utf-8"))
    facts["config"] |= config
    (folder / "golden.json").write_text(json.dumps(facts))
    for name in files:
        shutil.copy(GOLDEN / name, folder)
    agreement = importlib.import_module("agreement")
    return agreement.of_folder(folder)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "golden.npz") as file:
        return dict(file)


def largest(found, *names):
    return max(found["arrays"][name]["largest"] for name in names)


def test_heads_of_vjepa1_are_independent_of_those_of_vjepa2(tmp_path, golden):
    names = ("clip", "mask_context", "vjepa1_encoder_tokens", "vjepa1_encoder_tokens_masked")
    arrays = {name: golden[name] for name in names}
    found = results(tmp_path, arrays, ["vjepa1_layout.pth.tar"], heads=5)
    assert largest(found, *names[2:]) < 2e-5


def test_action_conditioned_clips_are_longer_than_the_encoders(tmp_path, golden):
    arrays = {name: golden[name] for name in golden if name.startswith("ac_")}
    arrays["ac_out_T1"] = arrays["ac_out"][:, :16]
    files = ["vjepa2_ac_layout.pt", "vjepa2_ac_extrinsics_layout.pt"]
    found = results(tmp_path, arrays, files, frames=2, crop=32)
    assert not found["not_computed"]
    assert largest(found, *(name for name in arrays if "out" in name)) < 2e-5


def test_index_of_the_mask_token_is_modulo_their_number(tmp_path, golden):
    names = ("clip", "mask_context", "mask_target", "predictor_out_mask_token_0")
    arrays = {name: golden[name] for name in names}
    arrays |= {f"predictor_out_mask_token_{i}": arrays[names[3]] for i in (1, 7)}
    parts = torch.load(GOLDEN / VJEPA2, weights_only=True)
    for i in (1, 2):
        del parts["predictor"][f"module.backbone.mask_tokens.{i}"]
    torch.save(parts, tmp_path / VJEPA2)
    found = results(tmp_path, arrays, [], nm=1)
    assert largest(found, *(f"predictor_out_mask_token_{i}" for i in (0, 1, 7))) < 2e-5


def test_masked_predictor_has_the_grid_of_the_encoders_patches(tmp_path, golden):
    models = importlib.import_module("agreement_models")
    results(tmp_path, {"clip": golden["clip"]}, [VJEPA2], crop=56, frames=3)
    opened = importlib.import_module("agreement_golden").Golden(tmp_path, "golden")
    sizes = EncoderConfig(embed_dim=24, depth=1, num_heads=2, patch_size=14, tubelet_size=1)
    predictor = models._predictor(opened, VJEPA2, VisionTransformer(sizes))
    assert tuple(predictor.config.grid) == (3, 4, 4)


def test_schedules_of_another_number_of_steps_are_computed(tmp_path):
    warm = [1e-4 + (5.25e-4 - 1e-4) * step / 10 for step in range(1, 11)]
    fall = [5.25e-4 + (1e-6 - 5.25e-4) * step / 10 for step in range(1, 11)]
    probe = [5e-4 * (1 + np.cos(np.pi * step / 30)) for step in range(1, 31)]
    arrays = {
        "lr_wsd_30": [*warm, *[5.25e-4] * 10, *fall],
        "lr_linear_10": fall,
        "lr_probe_30": probe,
    }
    np.savez(tmp_path / "golden_perception.npz", **arrays)
    (tmp_path / "golden_perception.json").write_text("{}")
    found = importlib.import_module("agreement").of_folder(tmp_path)
    assert largest(found, *arrays) < 1e-9


def test_predictor_of_four_levels_gets_them(tmp_path):
    for name in ("golden21.npz", "golden21.json"):
        shutil.copy(GOLDEN / name, tmp_path)
    parts = torch.load(GOLDEN / "vjepa21_layout.pt", weights_only=True)
    key = "module.backbone.predictor_embed.weight"
    last = parts["predictor"][key]
    parts["predictor"][key] = torch.cat([torch.zeros(len(last), 3 * last.shape[1]), last], dim=1)
    torch.save(parts, tmp_path / "vjepa21_layout.pt")
    found = importlib.import_module("agreement").of_folder(tmp_path)
    assert largest(found, "golden21/predictor_targets", "golden21/predictor_context") < 2e-5
