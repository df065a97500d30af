"""The benchmark of long pretraining on play: a tiny run of all its stages, and its probe."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from planning.cli.app import main

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("page_blocks", "play_page", "play_pretraining", "play_probe", "pretraining")


@pytest.fixture(autouse=True)
def as_a_script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in (*NAMES, "option_words", "pretraining_page"):
        sys.modules.pop(name, None)


PROBED = ("object_encoded_m", "object_predicted_m", "tcp_encoded_m", "object_raw_pixels_m")
PROBED += ("object_robot_state_m", "loss_true", "loss_copy", "loss_shuffled")
FOUND = {
    "inspect": dict.fromkeys(PROBED, 0.1),
    "eval": {
        "episodes": 1,
        "successes": 0,
        "ci95": [0.0, 1.0],
        "final_error_m": {"median": 0.1},
        "seconds_per_action": {"median": 0.1},
    },
}
"""Summaries of commands that are only composed."""


def run_here(*words, spent=None):
    """Run a command in this process; every one costs 2 s and a tenth of a second per step."""
    found = FOUND.get(words[0])
    assert main([*words, *(("--cfg", "job") if found else ())]) == 0
    if found:
        out = Path(words[-1].removeprefix("out="))
        out.mkdir(parents=True)
        (out / "summary.json").write_text(json.dumps(found), encoding="utf-8")
    steps = [int(word.removeprefix("steps=")) for word in words if word.startswith("steps=")]
    seconds = 2.0 + 0.1 * sum(steps)
    if spent is not None:
        spent.parent.mkdir(parents=True, exist_ok=True)
        spent.write_text(json.dumps(seconds), encoding="utf-8")
    return seconds


TINY = [
    *("encoder_dim=24", "encoder_depth=1", "encoder_heads=2", "predictor_dim=24", "steps=4"),
    *("predictor_depth=1", "batch_size=8", "val_clips=8", "probe_frames=16", "eval_every=2"),
    *("warmup=1", "decay=1", "image_size=60", "patch_size=20", "device=cpu"),
]


def options_of(script, tmp_path, *more):
    words = [f"out={tmp_path}/runs", f"result={tmp_path}/result.json", f"extra={' '.join(TINY)}"]
    words += ["episodes=6", "held_out=3", "clips=48", "test_clips=24", "probe_steps=20"]
    words += ["after_s=0.3", "frames=64", "reach=1", "arms=latent_frozen"]
    return script.read_options([*words, *more])


def test_all_stages_of_a_tiny_run_are_done_once(tmp_path, monkeypatch):
    script = importlib.import_module("play_pretraining")
    monkeypatch.setattr(script, "worldmodel", run_here)
    monkeypatch.setattr(script, "TRIAL", (1, 3))
    script.Comparison(options_of(script, tmp_path)).run()
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert set(result["judged"]) == {
        *("mean", "latent", "pixels", "untrained", "raw", "latent_half", "pixels_half")
    }
    assert result["judged"]["latent_half"]["step"] == 2
    assert result["encoders"]["latent"]["steps"] == 4
    assert result["seconds_per_step"]["frozen"] == pytest.approx(0.1)
    arm = result["arms"]["latent_frozen"]
    assert (arm["steps"], arm["clips"]) == (3, 96)
    assert not {"pixels", "joint"} & set(result["options"])
    assert arm["reach"]["episodes"] == 1
    shown = script.blocks(result)
    assert "V-JEPA's encoder, frozen" in shown["play_arms"]
    assert shown["play_curves"].count("\n") > 2
    monkeypatch.setattr(script, "worldmodel", lambda *words, **_: pytest.fail(f"runs {words}"))
    script.Comparison(options_of(script, tmp_path)).run()


def test_the_probe_reads_what_tokens_tell():
    probe = importlib.import_module("play_probe")
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(256, 4, 3, generator=generator)
    tokens = torch.cat([truth.flatten(1), torch.zeros(256, 12)], 1)[:, None].repeat(1, 4, 1)
    fitted = probe.fit(tokens, truth, 2, probe.ProbeFit(steps=300))
    with torch.no_grad():
        found = fitted(tokens)
    row = probe.errors(found, truth)
    assert row["tip_m"] < 0.3 * float(truth[:, 1].norm(dim=-1).mean())
    still = truth.clone()
    still[1:, 2] = 0.0
    assert probe.errors(still * 0, still)["object_motion_m"] == pytest.approx(
        float(truth[0, 2].norm())
    )


def test_a_mistyped_arm_is_named():
    script = importlib.import_module("play_pretraining")
    with pytest.raises(SystemExit, match="latent_freezed"):
        script.read_options(["arms=latent_freezed"])
