"""Training of macro-actions: the model keeps its other parts, resumes, and plans on two levels."""

import json

import pytest
import torch

from planning.cli.app import compose_options, main
from worldmodel import load_world_model
from worldmodel.errors import ConfigError
from worldmodel.training.distributed import Ranks
from worldmodel.training.run import open_task

SIZES = [
    *("image_size=32", "patch_size=32", "stem_channels=[4,8]", "encoder_dim=16", "encoder_heads=2"),
    *("predictor_dim=16", "predictor_depth=1", "predictor_heads=2"),
]
RUN = ["batch_size=4", "val_clips=6", "log_every=1", "bf16=false", "threads=1", "num_frames=5"]
MACRO = ["mode=macro", "span=2", "code_dim=3", "macro_dim=16", "macro_depth=1", "macro_heads=2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small model with an object head, its data, and one with macro-actions."""
    root = tmp_path_factory.mktemp("macro")
    data = root / "data"
    assert main(["collect", f"out={data}", "episodes=3", "length=24", "workers=1", "seed=1"]) == 0
    folders = [f"data={data}", f"val={data}", f"cache={root}/cache"]
    words = [*SIZES, *RUN, *folders, "steps=2", "plan_clips=0", "head_weight=1"]
    assert main(["train", *words, f"out={root}/fast"]) == 0
    words = [*MACRO, *RUN, *folders, "steps=3", "save_every=1", f"encoder={root}/fast"]
    words += ["num_sequences=40", "macro_match=0.5"]
    assert main(["train", *words, f"out={root}/slow"]) == 0
    return root, words


def test_only_the_slow_dynamics_is_new(world):
    root, _ = world
    fast, slow = (load_world_model(root / name, "cpu") for name in ("fast", "slow"))
    before, after = fast.state_dict(), slow.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name.split(".")[0] for name in after.keys() - before.keys()} == {"macro"}
    assert fast.macro is None
    assert slow.macro.sequences_QLA.shape == (40, 2, 7)
    assert not slow.macro.sequences_QLA[0].any()
    assert len(slow.macro.sequences_QLA[1:].flatten(1).unique(dim=0)) > 10
    summary = json.loads((root / "slow" / "summary.json").read_text())
    assert {"rollout", "macro_match", "val_macro_1", "val_macro_2"} <= summary["last"].keys()
    assert summary["simulator_label"] == "no"


def test_a_killed_run_continues_to_the_same_weights(world):
    root, words = world
    assert main(["train", *words, f"out={root}/killed", "stop_after=2"]) == 0
    assert main(["train", *words, f"out={root}/killed"]) == 0
    whole, killed = (load_world_model(root / n, "cpu").state_dict() for n in ("slow", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


@torch.no_grad()
def test_a_macro_roll_out_is_causal_and_depends_on_its_codes(world):
    root, _ = world
    macro = load_world_model(root / "slow", "cpu").macro
    z, codes = torch.randn(1, 1, 16), macro.encode_actions(macro.sequences_QLA[:5])
    assert codes.abs().max() <= 1
    codes = codes.unsqueeze(1).repeat(1, 2, 1)
    other = codes.clone()
    other[:, 1] = -other[:, 1]
    one, two = macro.unroll(z, codes), macro.unroll(z, other)
    assert torch.equal(one[:, 0], two[:, 0])
    assert not torch.equal(one[:, 1], two[:, 1])


def test_it_plans_on_two_levels(world, tmp_path):
    root, _ = world
    words = ["eval", f"model={root}/slow", "task=pick_place", "sub_goals=one", "episodes=1"]
    words += ["workers=1", "baselines=false", "pictures=false", f"out={tmp_path}"]
    search = ["hierarchy=macro", "macro_samples=16", "macro_iterations=2", "macro_execute=2"]
    assert main([*words, *search, "samples=16", "iterations=2"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["planner"]["macro_search"]["hierarchy"] == "macro"
    assert summary["evaluations_per_action"]["calls"]["p95"] == 4


def test_contradictions_are_rejected(world, capsys):
    root, words = world
    with pytest.raises(ConfigError, match="not a whole number of macro-actions"):
        compose_options("train", ["mode=macro", "span=7"])
    options = compose_options("train", [*words, "encoder=default"])
    with pytest.raises(ConfigError, match="needs an object head"):
        open_task(options, Ranks())
    words = ["eval", "task=push", "hierarchy=macro", f"model={root}/fast", "baselines=false"]
    assert main(words) != 0
    assert "worldmodel train mode=macro" in capsys.readouterr().err
