import json
from pathlib import Path

import pytest
import torch

from planning.cli.app import main
from worldmodel.checkpoint import load_encoder, load_published, save
from worldmodel.models.frame_encoder import VideoEncoder

GOLDEN = Path(__file__).parents[2] / "golden"


def test_models_lists_names_sizes_and_licences(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDMODEL_CACHE", str(tmp_path / "cache"))
    assert main(["models", f"out={tmp_path}"]) == 0
    out = capsys.readouterr().out
    for word in ("vjepa2-ac-vitg", "vjepa2.1-vitb", "CC BY-NC", "MIT", "+ actions", "probe"):
        assert word in out
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert {r["cached_bytes"] for r in rows} == {0}


def test_convert_prints_what_it_dropped(capsys, tmp_path):
    out = tmp_path / "own.safetensors"
    words = [
        "convert",
        f"source={GOLDEN / 'vjepa2_ac_layout.pt'}",
        f"out={out}",
        "num_heads=2",
        "predictor_heads=2",
        "image_size=64",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "kept: encoder, predictor" in printed
    assert "target_encoder" in printed.split("dropped:")[1]
    assert json.loads(out.with_name(out.name + ".json").read_text())["step_seconds"] == 0.25


@torch.no_grad()
def test_convert_writes_what_transformers_reads(capsys, tmp_path):
    transformers = pytest.importorskip("transformers")
    source, out = GOLDEN / "perception" / "ijepa_layout.pth.tar", tmp_path / "theirs"
    words = ["convert", f"source={source}", "layout=huggingface"]
    sizes = ["num_heads=2", "part=target_encoder"]
    assert main([*words, f"out={out}", *sizes]) == 0
    assert "kept: target_encoder" in capsys.readouterr().out
    ours = VideoEncoder.of(load_published(source, "target_encoder", num_heads=2))
    model = transformers.IJepaModel.from_pretrained(out).eval()
    pixels = torch.randn(2, 3, *ours.image_size)
    wanted = model(pixels).last_hidden_state
    found = ours.tokens_of(pixels.unsqueeze(2))
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)
    back = load_encoder(out, "cpu").tokens_of(pixels.unsqueeze(2))
    torch.testing.assert_close(back, wanted, atol=2e-5, rtol=0)
    save(tmp_path / "encoder.safetensors", ours)
    own = [f"source={tmp_path}", "layout=huggingface", f"out={tmp_path}/again"]
    assert main(["convert", *own]) == 0
    again = transformers.IJepaModel.from_pretrained(tmp_path / "again").eval()
    assert torch.equal(again(pixels).last_hidden_state, wanted)
    assert main(["convert", *own, "num_heads=4"]) == 2
    assert "knows its sizes" in capsys.readouterr().err
    assert main([*words, f"out={tmp_path}/a.safetensors", *sizes]) == 2
    assert "is a folder with this layout" in capsys.readouterr().err
    video = f"source={GOLDEN / 'vjepa2_pretrain_layout.pt'}"
    words = ["convert", video, "layout=huggingface", f"out={tmp_path}/video", "num_heads=2"]
    assert main(words) == 2
    assert "I-JEPA encoders" in capsys.readouterr().err


def test_user_errors_are_two_lines_at_most(capsys, tmp_path):
    assert main(["convert", "source=x"]) == 2
    assert main(["convert", "source=x", f"out={tmp_path / 'a.safetensors'}"]) == 2
    file = GOLDEN / "vjepa2_pretrain_layout.pt"
    assert main(["convert", f"source={file}", f"out={tmp_path / 'a.safetensors'}"]) == 2
    assert "pass num_heads=" in capsys.readouterr().err
