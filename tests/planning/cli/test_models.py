import json
from pathlib import Path

from planning.cli.app import main

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


def test_user_errors_are_two_lines_at_most(capsys, tmp_path):
    assert main(["convert", "source=x"]) == 2
    assert main(["convert", "source=x", f"out={tmp_path / 'a.safetensors'}"]) == 2
    file = GOLDEN / "vjepa2_pretrain_layout.pt"
    assert main(["convert", f"source={file}", f"out={tmp_path / 'a.safetensors'}"]) == 2
    assert "pass num_heads=" in capsys.readouterr().err
