"""The robot of the DROID data set in simulation, from recording to planning and driving."""

import json
from pathlib import Path

import av
import h5py
import numpy as np
import pytest

from envs.embodiment import DROID
from planning.apps.embodiment import warn_of_embodiment
from planning.apps.local_planner import LocalPlanner
from planning.arm_options import DriveOptions
from planning.cli.app import main
from planning.drive_log import read_log
from planning.options import SceneOptions
from planning.workcell_options import WorkcellOptions

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = ["samples=16", "iterations=1", "device=cpu"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Random weights in the layout of the published V-JEPA 2-AC."""
    out = tmp_path_factory.mktemp("ac") / "ac.safetensors"
    sizes = ["num_heads=2", "predictor_heads=2", "image_size=64"]
    assert main(["convert", f"source={GOLDEN / 'vjepa2_ac_layout.pt'}", f"out={out}", *sizes]) == 0
    return out


def test_recordings_have_wide_exterior_and_wrist_videos(tmp_path):
    words = ["cameras=[left,wrist]", "image_size=64", "episodes=1", "length=4", "workers=1"]
    assert main(["collect", "embodiment=droid", *words, f"out={tmp_path / 'data'}"]) == 0
    (folder,) = (tmp_path / "data").glob("SIM/*/*/episode-*")
    with h5py.File(folder / "trajectory.h5") as file:
        closed = file["observation/robot_state/gripper_position"][:]
    assert closed[0] == pytest.approx(0.0, abs=0.02)
    (facts,) = folder.glob("metadata_*.json")
    assert json.loads(facts.read_text())["embodiment"] == "droid"
    shapes = []
    for video in sorted((folder / "recordings" / "MP4").glob("*.mp4")):
        with av.open(str(video)) as opened:
            shapes += [frame.to_ndarray(format="rgb24").shape for frame in opened.decode(video=0)]
    assert set(shapes) == {(64, 114, 3)}
    assert len(shapes) == 2 * 4


def test_published_weights_are_evaluated_and_driven(published, tmp_path):
    model = f"model={published}"
    words = ["task=reach", "embodiment=droid", model, "episodes=1", "workers=1", *SMALL]
    assert main(["eval", *words, "baselines=false", f"out={tmp_path / 'eval'}"]) == 0
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["embodiment"] == "droid"
    drive = ["drive", "task=reach", "embodiment=droid", model, "episodes=1", "execute=true"]
    assert main([*drive, *SMALL, "confirm=false", f"out={tmp_path / 'drive'}"]) in (0, 1)
    (folder,) = (tmp_path / "drive" / "logs").iterdir()
    header = read_log(folder).header
    assert header["specs"]["arm"]["flange_to_tcp_m"] == DROID.flange_to_tcp_m
    assert np.allclose(header["box_m"][0], DROID.flange_low_m)


def test_the_energy_landscape_of_its_scene_is_drawn(published, tmp_path, monkeypatch, capsys):
    keys = iter(["k start", "wwar", "k moved", "q"])
    monkeypatch.setattr("builtins.input", lambda *_: next(keys))
    out = tmp_path / "moves"
    capture = ["capture-goal", "embodiment=droid", "execute=true", "confirm=false"]
    assert main([*capture, f"out={out}"]) == 0
    pictures = [f"image={out / '00-start.png'}", f"goal={out / '01-moved.png'}"]
    words = ["inspect", "energy", f"model={published}", "grid=3", "device=cpu", *pictures]
    assert main([*words, f"out={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert np.allclose(summary["true_action"][:3], [0.04, 0.02, 0.02], atol=0.005)
    assert (tmp_path / "energy.png").stat().st_size > 10_000
    (out / "00-start.json").unlink()
    capsys.readouterr()
    assert main(words) == 2
    assert "00-start.png has no state beside it" in capsys.readouterr().err
    words = ["calibrate", "axes", f"model={published}", "embodiment=droid", "execute=true"]
    few = ["confirm=false", "moves=4", "samples=4", "iterations=1", "elites=2", "device=cpu"]
    assert main([*words, *few, "max_condition=1000", f"out={tmp_path / 'axes'}"]) == 2
    assert "the model does not see these moves" in capsys.readouterr().err


def test_a_demo_needs_a_model_of_this_robot(capsys):
    assert main(["demo", "embodiment=droid"]) == 2
    assert "no embedded model was trained on this robot" in capsys.readouterr().err


def test_an_embedded_model_runs_on_this_robot_with_a_warning(published, tmp_path, caplog):
    words = ["task=reach", "embodiment=droid", "model=default", "episodes=1", "workers=1", *SMALL]
    assert main(["eval", *words, "baselines=false", f"out={tmp_path / 'eval'}"]) == 0
    warning = "model=default was trained on the Franka hand and its square images"
    assert caplog.text.count(warning) == 1
    caplog.clear()
    warn_of_embodiment("default", "franka")
    warn_of_embodiment(str(published), "droid")
    assert not caplog.text
    cell = WorkcellOptions(scene=SceneOptions(task="reach", embodiment="droid"))
    LocalPlanner(DriveOptions(workcell=cell, model="default", device="cpu").resolved())
    assert warning in caplog.text


def test_other_arms_than_the_simulated_one_refuse_it(capsys):
    assert main(["drive", "robot=twin", "embodiment=droid", "task=reach"]) == 2
    assert "embodiment=droid has no effect with robot=twin" in capsys.readouterr().err
    assert main(["collect", "environment=fetch_push", "embodiment=droid"]) == 2
    assert "embodiment=droid has no effect with environment" in capsys.readouterr().err
