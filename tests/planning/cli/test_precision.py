"""`device=` and `precision=` of the commands that load a model, on this CPU."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from planning.apps import replay
from planning.apps.policies import chooser_of, samples_at_once
from planning.cli.app import main
from planning.cli.commands import COMMANDS, load_command
from planning.planner_options import PlannerOptions
from planning.skill_options import SkillOptions
from worldmodel import load_world_model
from worldmodel.checkpoints.io import copy_on_cpu
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.prepare import encoder_hash
from worldmodel.data.writers.synthetic import write_dataset
from worldmodel.evaluation import rollout_table
from worldmodel.evaluation.rollout_table import RolloutClips

TRAJECTORY = Path(__file__).parents[2] / "golden" / "franka_example_traj.npz"
ELSEWHERE = {"train", "pretrain", "convert", "models", "replay", "bench planning", "publish"}
"""Commands that name a model and take it from elsewhere: `run.device`, a log, or no device."""


def option_names(kind):
    found = set()
    for item in dataclasses.fields(kind):
        value = item.default_factory() if callable(item.default_factory) else None
        nested = dataclasses.is_dataclass(value)
        found |= option_names(type(value)) if nested else {item.name}
    return found


def test_every_command_that_loads_a_model_takes_a_device_and_a_precision():
    takes = set()
    for name in COMMANDS.keys() - ELSEWHERE:
        for kind in load_command(name).kinds.values():
            names = option_names(kind)
            if names & {"model", "encoder", "probe"}:
                assert {"device", "precision"} <= names, name
                takes.add(name)
    assert {"demo", "eval", "plan", "drive", "calibrate axes", "inspect probes"} <= takes
    assert {"features", "data prepare", "probe eval", "anticipate", "surprise"} <= takes


def picture(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def plan(folder, out, word):
    first, goal = (picture(folder / f"{seed}.png", seed) for seed in (0, 1))
    words = [f"image={first}", f"goal={goal}", "samples=8", "iterations=1", "stretch=1"]
    assert main(["plan", *words, "device=cpu", word, f"out={out}"]) == 0
    found = json.loads((out / "summary.json").read_text())
    return [found["energy_now"], found["energy_imagined"]]


def test_a_plan_prints_null_where_an_energy_is_not_finite(monkeypatch, capsys):
    found = {"actions": [], "energy_now": float("nan"), "energy_imagined": float("inf")}
    monkeypatch.setattr("planning.apps.plan.make_plan", lambda _: found)
    assert main(["plan", "image=a.png", "goal=b.png"]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == {"actions": [], "energy_now": None, "energy_imagined": None}


def energies(_, out, word):
    words = [f"trajectory={TRAJECTORY}", "grid=3", "device=cpu"]
    assert main(["inspect", "energy", *words, word, f"out={out}"]) == 0
    return json.loads((out / "summary.json").read_text())["planes"]["xy"]


def features(folder, out, word):
    image = picture(folder / "a.png", 0)
    words = [f"videos={image}", "model=default", "dtype=float32", "device=cpu"]
    assert main(["features", *words, word, f"out={out}.h5"]) == 0
    with h5py.File(f"{out}.h5") as file:
        return file["a.png"]["features"][:]


def prepared(folder, out, word):
    if not (folder / "index").is_dir():
        write_dataset(folder / "data", episodes=1, seed=0)
        words = [f"root={folder}/data", f"out={folder}/index", "workers=1"]
        assert main(["data", "index", *words]) == 0
    words = [f"index={folder}/index", "what=features", "encoder=random:tiny", "image_size=32"]
    assert main(["data", "prepare", *words, "device=cpu", word, f"out={out}"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    encoder = load_encoder("random:tiny", "cpu", image_size=32)
    assert summary["encoder_hash"] == encoder_hash(encoder.backbone)  # whatever the precision
    with safe_open(next(out.glob("*.safetensors")), framework="pt") as file:
        return file.get_tensor("features").float().numpy()


@pytest.mark.parametrize("command", [plan, energies, features, prepared])
def test_auto_is_float32_here_and_bfloat16_is_near_it(tmp_path, command, capsys):
    found = {
        name: np.array(command(tmp_path, tmp_path / name, f"precision={name}"))
        for name in ("auto", "float32", "bfloat16")
    }
    exact, low = found["float32"], found["bfloat16"]
    assert np.array_equal(found["auto"], exact)
    assert not np.array_equal(low, exact)
    assert np.linalg.norm(low - exact) < 3e-2 * np.linalg.norm(exact)


def test_features_of_another_precision_are_refused(tmp_path, capsys):
    prepared(tmp_path, tmp_path / "out", "precision=float32")
    words = [f"index={tmp_path}/index", "what=features", "encoder=random:tiny", "image_size=32"]
    words += ["precision=bfloat16", f"out={tmp_path}/out"]
    assert main(["data", "prepare", *words]) == 2
    assert "holds shards of another plan" in capsys.readouterr().err
    assert main(["data", "prepare", f"index={tmp_path}/index", "precision=float32"]) == 2
    assert "precision=float32 has no effect with what=frames" in capsys.readouterr().err


def test_skills_are_imagined_in_bfloat16_unless_float32_is_asked_for():
    world = load_world_model("default", "cpu")

    def autocasts(precision):
        chooser = chooser_of("planner", world, SkillOptions(energy="latent"), precision)
        return chooser.search.imagination.autocast

    assert autocasts("auto")
    assert not autocasts("float32")
    world.bfloat16()
    assert not autocasts("auto")


def test_half_the_bytes_let_twice_the_plans_in():
    exact, low = load_world_model("default", "cpu"), load_world_model("default", "cpu", "bfloat16")
    few, many = (samples_at_once(world, PlannerOptions(memory_gb=1)) for world in (exact, low))
    assert many == pytest.approx(2 * few, rel=1e-3)


def test_a_drive_is_replayed_with_the_weights_that_planned_it(tmp_path):
    asked = []

    def load(*words):
        asked.append(words)
        raise InterruptedError

    for facts in ({}, {"weights": "bfloat16"}):
        said = {"model": "m", "device": "cpu", "precision": "auto", "axes": ""}
        header = {"options": said, "box_m": None, **facts}
        with pytest.raises(InterruptedError):
            replay.logged_agent(SimpleNamespace(header=header, folder=tmp_path), load)
    assert asked == [("m", "cpu", "float32"), ("m", "cpu", "bfloat16")]


@torch.no_grad()
def test_a_copy_for_another_process_is_the_same_model():
    world = load_world_model("one_goal", "cpu")
    frames = torch.zeros(1, *world.image_size, 3, dtype=torch.uint8)
    z = world.encode(frames)
    copied = copy_on_cpu(world)
    assert not copied.predictor._tables
    assert torch.equal(copied.encode(frames), z)
    now = z, torch.full((1, 7), 0.3), torch.zeros(2, 2, 7)
    torch.testing.assert_close(copied.unroll(*now), world.unroll(*now), atol=1e-5, rtol=0)
    assert torch.equal(copied.locate(z).position_m, world.locate(z).position_m)


def test_rollouts_are_imagined_in_parts_that_fit_into_memory(monkeypatch):
    world = load_world_model("one_goal", "cpu")
    generator = torch.Generator().manual_seed(0)
    tokens = (world.config.predictor.grid[0] ** 2, world.config.predictor.encoder_dim)
    clips = RolloutClips(
        z_CTND=torch.randn(5, 3, *tokens, generator=generator),
        states_CTS=torch.full((5, 3, 7), 0.3),
        actions_CKA=0.05 * torch.randn(5, 2, 7, generator=generator),
        poses_CTM4=torch.rand(5, 3, 1, 4, generator=generator),
    )
    whole = rollout_table._imagine(world, clips, 2)
    monkeypatch.setattr(rollout_table, "MEMORY", 2 * world.bytes_per_sample(2))
    sizes = []
    unroll = world.unroll
    monkeypatch.setattr(world, "unroll", lambda z, *a: sizes.append(len(z)) or unroll(z, *a))
    parts = rollout_table._imagine(world, clips, 2)
    assert sizes == [2, 2, 1]
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)
