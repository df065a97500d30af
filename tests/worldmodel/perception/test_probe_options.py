"""Options of the probe commands: shared tokens, number of classes, float16, Hugging Face."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from planning.cli.app import main, parse_options
from tests.worldmodel.perception.labelled_set import write_set
from worldmodel.checkpoints.published import sizes
from worldmodel.checkpoints.published.probes import load_probes
from worldmodel.errors import ConfigError
from worldmodel.perception.heads.curves import draw_curves
from worldmodel.perception.heads.grid import HeadSettings
from worldmodel.perception.probes import known_probe, token_file
from worldmodel.perception.probes import run as probe_run
from worldmodel.perception.probes.recipes import RECIPES

HEADS = Path(__file__).parents[2] / "golden" / "perception" / "probe_multihead_layout.pt"
CLIPS = ["clips.num_frames=4", "frame_step=2", "num_segments=1", "num_views=2"]
TRAIN = ["num_heads=2", "depth=1", "epochs=1", "batch_size=8", "device=cpu", "lr=1e-3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("options"), train=4, val=2)


def options(folder, *more):
    words = [f"{split}={folder}/{split}.txt" for split in ("train", "val")]
    words += [f"encoder={folder}/encoder.safetensors", *CLIPS, *TRAIN, *more]
    return parse_options("probe train", probe_run.TrainOptions, words)


def test_runs_share_the_tokens_of_a_folder(folder, monkeypatch):
    shared = f"tokens={folder}/tokens"
    first = probe_run.train_probe(options(folder, shared, f"out={folder}/first"))

    def encode(*_, **__):
        raise AssertionError("the tokens are there")

    monkeypatch.setattr(token_file, "encode_file", encode)
    second = probe_run.train_probe(
        options(folder, shared, f"out={folder}/second", "weight_decay=0.3", "depth=2", "seed=3")
    )
    assert first["rejected"] == second["rejected"]
    assert first["trained_on"] == second["trained_on"] == 7
    assert not list((folder / "second").glob("*.h5"))
    with Image.open(folder / "second" / "curves.png") as picture:
        assert picture.size == (900, 500)
    with pytest.raises(ConfigError, match="use another out="):
        probe_run.train_probe(options(folder, shared, f"out={folder}/third", "frame_step=1"))


def test_curves_of_heads_that_diverge_are_drawn(tmp_path):
    heads = (HeadSettings(lr=0.1), HeadSettings(lr=0.2))
    rows = [{"epoch": n, "loss": [1.0 / n, float("nan")]} for n in (1, 2, 3)]
    for name, shown in (("all", rows), ("nan", [{"epoch": 1, "loss": [float("nan")] * 2}])):
        draw_curves(tmp_path / f"{name}.png", shown, heads)
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        marked = np.abs(pixels - (31, 119, 180)).sum(-1) < 30  # the colour of the lowest rate
        assert marked.sum() > 20


def test_labels_beyond_the_number_of_classes_are_named(folder):
    (folder / "typo.txt").write_text((folder / "train.txt").read_text() + "\ntrain/clip 2.mp4 77")
    typo = f"train={folder}/typo.txt"
    found = probe_run.train_probe(options(folder, typo, "num_classes=5", f"out={folder}/classes"))
    reasons = [text for text in found["rejected"]["train"].values() if "label 77" in text]
    assert len(reasons) == 1
    assert "allowed: 0..4" in reasons[0]
    assert found["classes"] == 5
    assert "3 of 5 classes have no training item" in found["remarks"][0]


def test_fewer_classes_than_class_folders_are_refused(folder):
    for name in ("cat", "dog"):
        (folder / "folders" / name).mkdir(parents=True)
        (folder / "folders" / name / "a.mp4").write_bytes(b"")
    lists = [f"{name}={folder}/folders" for name in ("train", "val")]
    few = options(folder, *lists, "num_classes=1")
    with pytest.raises(ConfigError, match="2 class folders"):
        probe_run.read_train_and_val(few)


def test_evaluation_in_float16_is_near_that_in_float32(folder, capsys):
    probe_run.train_probe(options(folder, f"out={folder}/half"))
    words = ["probe", "predict", f"probe={folder}/half", f"videos={folder}/val", "device=cpu"]
    found = {}
    for precision in ("float32", "float16"):
        out = folder / precision
        assert main([*words, f"precision={precision}", f"out={out}"]) == 0
        rows = json.loads((out / "predictions.json").read_text())["predictions"]
        found[precision] = [dict(row)["0"] for row in rows.values()]
    assert found["float16"] == pytest.approx(found["float32"], abs=5e-3)
    assert found["float16"] != found["float32"]


def test_any_head_of_a_published_file_is_evaluated(folder, monkeypatch):
    monkeypatch.setitem(sizes.PROBE_HEADS, 16, 4)
    known = [
        known_probe.open_probe(str(HEADS), "some", "cpu", "float32", head).probe for head in (0, 1)
    ]
    for probe, wanted in zip(known, load_probes(HEADS), strict=True):
        tokens = torch.randn(2, 5, probe.config.embed_dim)
        torch.testing.assert_close(probe(tokens), wanted(tokens))
    with pytest.raises(ConfigError, match="it has 2, numbered from 0"):
        known_probe.open_probe(str(HEADS), "some", "cpu", "float32", 2)
    with pytest.raises(ConfigError, match="head=1"):
        known_probe.open_probe("vjepa2-vitl-ssv2", "", "cpu", "float32", 1)


@pytest.mark.parametrize(
    ("frames", "preset"), [(16, "ssv2"), (64, "ssv2_64"), (32, "diving48"), (4, "ssv2")]
)
def test_a_hugging_face_model_has_the_clips_of_its_length(frames, preset):
    names = {"1": "b", "0": "a", "10": "c"}
    recipe, classes = known_probe.huggingface_recipe({"frames_per_clip": frames, "id2label": names})
    assert recipe == replace(RECIPES[preset], num_frames=frames, levels="last")
    assert classes == ["a", "b", "c"]


def test_a_repository_of_the_hub_tells_its_encoder_and_classes(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"frames_per_clip": 64, "id2label": {"0": "run"}}')
    name = "facebook/vjepa2-vitg-fpc64-384-ssv2"
    monkeypatch.setattr(known_probe, "cached_folder", {name: tmp_path}.get)
    monkeypatch.setattr(known_probe, "load_probe", lambda *_: None)
    known = known_probe.open_probe(name, "", "cpu", "float32")
    assert (known.encoder, known.classes) == (name, ["run"])
    assert known.recipe == RECIPES["ssv2_64"]
