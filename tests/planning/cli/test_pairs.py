"""Options that are wrong only together are refused with both names, before anything is written."""

import json

import numpy as np
import pytest
from PIL import Image

from planning.cli.app import compose_options, main
from planning.cli.run_command import require_other_output
from planning.errors import PlanError
from planning.goals import read_goals
from worldmodel.training.schedules import warn_if_shortened

PAIRS = {
    "eval samples=10 elites=11": ("elites=11", "samples=10"),
    "eval optimiser=mppi elites=5": ("elites=5", "optimiser=mppi"),
    "plan image=a goal=b warm_start=true": ("warm_start=True", "plan"),
    "train rollout_steps=4 num_frames=4": ("rollout_steps=4", "num_frames=4"),
    "train mode=post rollout_steps=9 num_frames=8": ("rollout_steps=9", "num_frames=8"),
    "train mode=frozen rollout_steps=1024": ("rollout_steps=1024", "num_frames=4"),
    "train mode=finetune nodes=2": ("nodes=2", "launcher=here"),
    "train image_size=64": ("patch_size=128", "image_size=64"),
    "train image_size=100 patch_size=16": ("patch_size=16", "image_size=100"),
    "pretrain image_size=64 patch_size=128": ("patch_size=128", "image_size=64"),
    "pretrain stem=patch image_size=129": ("patch_size=32", "image_size=129"),
    "surprise benchmark=grasp data=d num_frames=7": ("num_frames=7", "contexts"),
    "surprise benchmark=grasp data=d pairs=p.csv": ("pairs='p.csv'", "benchmark=grasp"),
    "drive port=80": ("port=80", "view=true"),
    "drive steps=[3]": ("steps=[3]", "goals="),
    "check-view max_shift_px=1": ("max_shift_px", "reference="),
    "inspect energy trajectory=t image=a": ("trajectory", "image"),
    "bench planning quick=true repeats=2": ("repeats", "quick=true"),
    "data prepare what=frames encoder=e": ("encoder=e", "what=frames"),
    "drive robot=mujoco execute=true unattended=true": ("unattended=true", "robot=mujoco"),
}


@pytest.mark.parametrize("call", PAIRS)
def test_both_options_are_named(call, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(call.split()) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in PAIRS[call])
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_too_short_for_its_schedule_says_so(caplog):
    warn_if_shortened(compose_options("pretrain", ["steps=100", "warmup=60", "decay=40"]))
    assert not caplog.records
    warn_if_shortened(compose_options("pretrain", ["steps=100", "warmup=60", "decay=41"]))
    assert "warmup=60 and decay=41 need more than steps=100" in caplog.text


@pytest.mark.parametrize("steps", [0, -1, 1e30, 2.5, "3", None, float("inf"), 100_001])
def test_a_goal_s_budget_has_a_range(steps, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    facts = {"name": "a", "steps": steps, "state": [float("nan")] * 7}
    (tmp_path / "a.json").write_text(json.dumps(facts))
    with pytest.raises(PlanError, match=r"a\.json: steps=.*1 to 100000"):
        read_goals(tmp_path, [])


INPUTS = {
    "data index": "root",
    "data prepare": "index",
    "features": "videos",
    "convert": "source",
    "train": "val",
    "train mode=post": "encoder",
    "pretrain": "data",
    "probe train val=v": "train",
    "eval": "model",
    "replay": "run",
    "surprise benchmark=grasp": "data",
    "anticipate annotations=a videos=v": "probe",
}


@pytest.mark.parametrize("call", INPUTS)
@pytest.mark.parametrize("out", ["here", "there/../here", "link"])
def test_an_output_is_none_of_the_inputs(call, out, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "here" / "summary.json"
    kept.parent.mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("here")
    kept.write_text("mine")
    assert main([*call.split(), f"{INPUTS[call]}=here", f"out={out}"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"out={out} is the input {INPUTS[call]}=here" in line
    assert kept.read_text() == "mine"
    assert list(kept.parent.iterdir()) == [kept]


def test_an_output_may_be_named_after_its_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = compose_options("train", ["recipe=sim_small", "out=sim_small", "cache=sim_small"])
    require_other_output(options)


@pytest.mark.parametrize("call", ["probe boxes", "probe dense", "train decoder", "eval"])
def test_a_command_of_one_process_says_so_under_torchrun(call, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = {"probe boxes": ["train=a", "val=b", "actions=c", "videos=d"]}
    given |= {"probe dense": ["train=a", "val=b"]}
    assert main([*call.split(), *given.get(call, []), f"out={tmp_path}/out"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"`worldmodel {call}` runs in one process" in line
    assert "WORLD_SIZE=2" in line
    assert "probe train" in line
    assert not (tmp_path / "out").exists()
