"""The guide "Your environment", from an empty folder: its file and commands, only shorter."""

import ast
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from planning.apps.plan_sessions import PlanService, PlanSession
from planning.cli.app import main
from planning.planner_options import GoalPlannerOptions
from planning.remote.policy import ARM_FIELDS
from planning.remote.records import read_decision
from planning.serve_options import ServeOptions
from robot.arm import ArmSpec
from tests.guides import code_lines, commands, write_files
from worldmodel import load_world_model

SHORT = {
    "episodes=300": "episodes=6",
    "episodes=20": "episodes=2",
    "steps=1500": "steps=2",
    "batch_size=16": "batch_size=4",
}
"""What a test changes in the commands, to take seconds."""
PICTURE = "picture.png"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert write_files("your-environment.md", tmp_path) == ["my_env.py", "my_encoder.py"]
    yield tmp_path
    for name in ("my_env", "my_encoder"):
        sys.modules.pop(name, None)


def shorter(words):
    return [SHORT.get(word, word) for word in words]


def test_the_guide_collects_trains_and_evaluates_with_four_numbers(folder, capsys):
    (adapter,) = [
        ast.unparse(node)
        for node in ast.parse((folder / "my_env.py").read_text()).body
        if getattr(node, "name", "") == "PuckGoals"
    ]
    assert code_lines(adapter) <= 6
    mine = [words for words in commands("your-environment.md") if "fetch" not in " ".join(words)]
    words = [shorter(words) for words in mine]
    record, held_out, train, evaluate, drive, train_own, evaluate_own = words
    assert main([*record, "workers=1"]) == 0
    assert main([*held_out, "workers=1"]) == 0
    file = next((folder / "data/train").glob("*/*/*/*/trajectory.h5"))
    with h5py.File(file) as h5:
        sent = h5["action/delta"][:]
        states = h5["observation/robot_state/cartesian_position"][:]
    assert sent.shape[1] == 7
    assert not sent[:, 2:6].any() or not sent[:, 3:6].any()
    inside = (np.abs(states[1:, :2] - 0.5) < 0.44).all(1)
    assert np.allclose(np.diff(states[:, :2], axis=0)[inside], sent[:-1, :2][inside], atol=1e-6)
    assert main([*train, "threads=1", "plan_clips=0", "val_clips=4"]) == 0
    search = ["samples=20", "iterations=2", "device=cpu"]
    assert main([*evaluate, "workers=1", *search]) == 0
    summary = json.loads((folder / "runs/eval/summary.json").read_text())
    assert summary["task"] == "my_env:PuckGoals"
    assert summary["baselines"]["pose_only"]["success_rate"] == 1.0
    assert summary["baselines"]["hold"]["final_error_m"]["median"] > 0.0
    assert main([*drive, *search]) == 0
    driven = json.loads((folder / "runs/drive/summary.json").read_text())
    assert (driven["robot"], driven["reasons"]) == ("my_env:PuckGoals", {})
    for name in ("episodes", "successes"):
        assert driven[name] == summary[name]
    for name, value in summary["final_error_m"].items():
        assert driven["final_error_m"][name] == pytest.approx(value, abs=1e-4)
    assert main(["replay", "run=runs/drive"]) == 0
    assert main(["data", "index", "root=runs/drive/data", "out=runs/index"]) == 0
    assert served_action(folder).shape == (7,)
    run_own_encoder(train_own, [*evaluate_own, "workers=1", "baselines=false", *search], capsys)


def run_own_encoder(train, evaluate, capsys):
    """The guide's encoder, from training to planning, and what a file must not do."""
    short = ["threads=1", "plan_clips=0", "val_clips=4"]
    assert main([*train, *short]) == 0
    assert main(evaluate) == 0
    named = "runs/own+my_encoder:Patches"
    assert json.loads(Path("runs/eval_own/summary.json").read_text())["model"] == named
    start = [f"encoder={named}", "warm_predictor=true"]
    more = ["mode=finetune", "predictor_dim=96", "predictor_depth=2", "out=runs/tuned"]
    kept = [w for w in train if not w.startswith(("mode=", "encoder=", "predictor_", "out="))]
    assert main([*kept, *start, *more, *short]) == 0
    own = load_world_model("runs/own", "cpu", encoder=sys.modules["my_encoder"].Patches())
    tuned = load_world_model("runs/tuned", "cpu", encoder=sys.modules["my_encoder"].Patches())
    before, after = (w.encoder.backbone.weight for w in (own, tuned))
    fresh = sys.modules["my_encoder"].Patches().backbone.weight
    assert torch.allclose(before, fresh, atol=1e-3)  # frozen; the file is float16
    assert not torch.equal(before, after)
    index = ["data", "index", "root=data/train", "out=runs/listed"]
    assert main(index) == 0
    features = ["what=features", "encoder=my_encoder:Patches", "transform=squeeze"]
    assert main(["data", "prepare", "index=runs/listed", *features, "out=runs/prepared"]) == 0
    post = ["train", "mode=post", "data=runs/prepared", "val=runs/prepared", "steps=2"]
    post += ["batch_size=2", "warmup=1", "decay=1", "predictor_dim=32", "predictor_depth=1"]
    post += ["predictor_heads=2", *features[1:], *short, "out=runs/post"]
    assert main(post) == 0
    assert main(["publish", f"model={named}", "out=runs/published"]) == 0
    capsys.readouterr()
    plan = [f"image={PICTURE}", f"goal={PICTURE}", "state=[0.5,0.5,0,0]", "samples=4"]
    plan = ["plan", *plan, "iterations=1", "device=cpu"]
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(PICTURE)
    assert main([*plan, "model=runs/published+my_encoder:Patches"]) == 0
    capsys.readouterr()
    for model, why in {
        "runs/own": "a file never chooses code. Name it: model=FOLDER+my_encoder:Patches",
        "my_encoder:Patches": "is an encoder, without a predictor",
        "runs/puck+my_encoder:Patches": "not of a user's class",
        "runs/own+my_encoder:Gone": "cannot be loaded",
        "runs/own+my_env:Puck": "Derive it from that class",
    }.items():
        assert main([*plan, f"model={model}"]) == 2
        assert why in capsys.readouterr().err
    assert main([*evaluate, "shard=0", "shards=2"]) == 2
    assert "takes none from the records" in capsys.readouterr().err


def served_action(folder):
    """Action of a plan server for an arm of poses, by the model that has none."""
    world = load_world_model(str(folder / "runs/puck"), "cpu")
    planner = GoalPlannerOptions(method="actions", samples=4, iterations=1, elites=2)
    session = PlanSession(PlanService(world, ServeOptions(planner=planner)))
    arm = ArmSpec(max_step_m=0.05)
    image = np.zeros((48, 64, 3), np.uint8)
    session.answer({"request": "connect", "arm": {name: getattr(arm, name) for name in ARM_FIELDS}})
    session.answer({"request": "goal", "name": "goal", "steps": 2, "image": image})
    session.answer({"request": "begin", "seed": 0})
    state = np.array([0.5, 0.5, 0, 3, 0, 0, 0])
    answer = session.answer({"request": "act", "image": image, "state": state})
    decision = read_decision(answer, num_goals=1)
    assert not decision.action[3:6].any()
    return decision.action


def test_options_of_the_table_are_refused_in_another_environment(folder, capsys):
    assert main(["eval", "environment=my_env:PuckGoals", "task=push"]) == 2
    assert "task=push has no effect" in capsys.readouterr().err
    assert main(["collect", "environment=my_env:PuckGoals", "walls=0.5", "mix=contact"]) == 2
    assert "mix=contact walls=0.5 has no effect" in capsys.readouterr().err
    assert main(["collect", "environment=my_env:Puk", "episodes=1", "workers=1"]) == 2
    assert "my_env:Puk cannot be loaded" in capsys.readouterr().err
    assert main(["drive", "environment=my_env:PuckGoals", "robot=fake", "task=reach"]) == 2
    assert "robot=fake task=reach has no effect" in capsys.readouterr().err
    assert main(["drive", "environment=my_env:PuckGoals", "model=default"]) == 2
    assert "have 7 numbers, the environment's have 4" in capsys.readouterr().err
    assert main(["eval", "environment=puck"]) == 2
    assert "is not available. Choose one of: fetch_push" in capsys.readouterr().err
    assert main(["collect", "environment=NoSuchThing-v3", "episodes=1", "workers=1"]) == 2
    assert "cannot be created" in capsys.readouterr().err
