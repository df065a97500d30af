"""The commands people type, on small settings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import envs
from planning.cli.app import main
from planning.cli.commands import COMMANDS
from worldmodel.checkpoint import load
from worldmodel.checkpoints.loading import embedded_path
from worldmodel.errors import CheckpointError, ShapeError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    out = tmp_path_factory.mktemp("pictures")
    env = envs.make("reach")
    seen, _ = env.reset(seed=11)
    (goal,) = env.sub_goals()
    Image.fromarray(seen["image"]).save(out / "now.png")
    Image.fromarray(goal.image).save(out / "goal.png")
    env.close()
    return out, seen["state"], goal.state


def test_plan_moves_toward_the_goal(pictures, tmp_path, capsys):
    folder, state, wanted = pictures
    numbers = ",".join(f"{x:.5f}" for x in state)
    words = ["plan", f"image={folder}/now.png", f"goal={folder}/goal.png", f"state=[{numbers}]"]
    assert main([*words, f"out={tmp_path}"]) == 0
    result = json.loads((tmp_path / "summary.json").read_text())
    move, change = np.array(result["actions"][0][:3]), wanted[:3] - state[:3]
    assert move @ change / np.linalg.norm(move) / np.linalg.norm(change) > 0.7
    assert result["energy_imagined"] < result["energy_now"]


def test_plan_without_pictures_says_what_to_give(capsys):
    assert main(["plan"]) == 2
    assert "image=FILE goal=FILE" in capsys.readouterr().err


def test_eval_writes_summary_and_report(tmp_path):
    words = ["eval", "task=reach", "episodes=2", "workers=1", f"out={tmp_path}"]
    assert main(words) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    named = "task episodes successes success_rate ci95 seconds_per_action final_error_m baselines"
    assert {*named.split(), "model", "seed", "versions"} <= summary.keys()
    assert summary["baselines"].keys() == {"hold", "random", "pose_only"}
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "task=fetch"], "reach, grasp"),
        (["eval", "model=nothing"], "No model 'nothing'"),
        (["eval", "episode=2"], "Did you mean `episodes`"),
        (["train", "recipe=sim_smal"], "sim_small"),
    ],
)
def test_wrong_names_say_the_right_ones(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_every_command_has_help(capsys):
    for name in COMMANDS:
        assert main([*name.split(), "--help"]) == 0
        assert name in capsys.readouterr().out


def test_collect_train_probe_end_to_end(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    assert main(["collect", f"out={data}", "episodes=6", "length=8", "workers=1"]) == 0
    words = ["train", f"data={data}", f"val={data}", f"out={out}", "steps=6", "batch_size=8"]
    small = ["image_size=64", "patch_size=64", "stem_channels=[8,16]", "encoder_dim=32"]
    sizes = ["predictor_dim=32", "predictor_depth=1", "object=1.0", "log_every=1", "eval_every=3"]
    assert main([*words, *small, *sizes]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["simulator_label"] == "yes"
    model = load(out / "model.safetensors", "cpu")
    assert model.image_size == (64, 64)
    probes = ["inspect", "probes", f"model={out}/model.safetensors", f"data={data}", f"val={data}"]
    assert main([*probes, f"out={tmp_path}/probes", "count=30", "fit_steps=20"]) == 0
    result = json.loads((tmp_path / "probes" / "summary.json").read_text())
    assert {
        "object_encoded_m",
        "object_predicted_m",
        "loss_true",
        "loss_copy",
        "loss_shuffled",
    } <= result.keys()


def test_a_damaged_model_is_refused(tmp_path):
    whole = embedded_path().read_bytes()
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load(torn)


def test_cached_unroll_equals_recomputing_the_history():
    world = load("default", "cpu")
    generator = torch.Generator().manual_seed(0)
    z = world.encode(torch.randint(0, 255, (1, 128, 128, 3), dtype=torch.uint8))
    state = torch.tensor([[0.5, 0, 0.3, 3.14, 0, -0.78, 0.0]])
    actions = torch.randn(5, 4, 7, generator=generator) * 0.03
    found = world.unroll(z, state, actions)
    frames, states = z.expand(5, -1, -1)[:, None], state.expand(5, -1)[:, None]
    for k in range(4):
        out = world.predict(frames, actions[:, : k + 1], states)[:, -1:]
        torch.testing.assert_close(found[:, k : k + 1], out, atol=1e-4, rtol=0)
        frames = torch.cat([frames, out], dim=1)
        after = world.next_state(states[:, -1], actions[:, k])
        states = torch.cat([states, after[:, None]], dim=1)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(128, 128, 3, dtype=torch.uint8), "batch axis"),
        (torch.zeros(1, 128, 128, 3), "uint8"),
        (torch.zeros(1, 64, 64, 3, dtype=torch.uint8), "preprocess"),
    ],
)
def test_wrong_pictures_say_the_fix(frames, message):
    with pytest.raises(ShapeError, match=message):
        load("default", "cpu").encode(frames)


def test_the_embedded_weights_are_small_and_described():
    files = list(Path(embedded_path().parent).glob("*.safetensors"))
    assert {f.stem for f in files} >= {"default", "one_goal", "one_goal_labelled", "unlabelled"}
    assert all(f.stat().st_size < 16_000_000 for f in files)
