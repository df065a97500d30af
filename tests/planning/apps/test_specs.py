"""What a checkpoint declares is kept when it plans, in `eval` and on the twin, or refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from planning.agent import PlanningAgent
from planning.cli.app import main
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder

FLANGE_TO_TCP_M = 0.1034
SMALL = ["samples=20", "iterations=2", "elites=4"]
TWIN = ["drive", "robot=twin", "task=reach", "execute=true", "confirm=false", "sub_goals=one"]
EVAL = ["eval", "task=reach", "episodes=1", "workers=1", "baselines=false"]


@pytest.fixture
def states(monkeypatch):
    """States [7] that the dynamics imagines from."""
    seen, unroll = [], LatentDynamics.unroll

    def spy(self, z_BND, state_BS, *rest, **more):
        seen.append(state_BS[0].clone())
        return unroll(self, z_BND, state_BS, *rest, **more)

    monkeypatch.setattr(LatentDynamics, "unroll", spy)
    return seen


def fingertips(state):
    """The state [7] of the point between the fingertips, by SciPy."""
    turn = Rotation.from_euler("xyz", state[3:6])
    moved = np.array(state, dtype=np.float64)
    moved[:3] += turn.apply([0.0, 0.0, FLANGE_TO_TCP_M])
    return moved


@pytest.fixture
def observed(monkeypatch):
    """States [7] that the arm reports to the agent."""
    seen, act = [], PlanningAgent.act

    def spy(self, observation):
        seen.append(observation["state"].copy())
        return act(self, observation)

    monkeypatch.setattr(PlanningAgent, "act", spy)
    return seen


def require_fingertips(states, observed):
    """Every observed flange state reaches the dynamics as the fingertips' state, and no other."""
    wanted = [fingertips(state) for state in observed[:-1]]  # the last look plans nothing
    assert len(wanted) > 2
    found = torch.stack(states).numpy()
    for state in wanted:
        assert np.abs(found - state).max(axis=1).min() < 1e-6
    for state in found:
        assert np.abs(np.array(wanted) - state).max(axis=1).min() < 1e-6


def test_a_fingertip_model_plans_from_fingertip_states(make_model, states, tmp_path):
    model, image = make_model(state_frame="tcp"), tmp_path / "now.png"
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(image)
    flange = [0.5, 0.05, 0.28, 3.1, 0.1, -0.7, 0.0]
    numbers = ",".join(map(str, flange))
    words = ["plan", f"image={image}", f"goal={image}", f"state=[{numbers}]", f"model={model}"]
    assert main([*words, *SMALL, "device=cpu", f"out={tmp_path}"]) == 0
    np.testing.assert_allclose(states[0].numpy(), fingertips(flange), atol=1e-6)


def test_a_fingertip_model_is_evaluated_from_fingertip_states(
    make_model, states, observed, tmp_path
):
    words = [*EVAL, *SMALL, f"model={make_model(state_frame='tcp')}", f"out={tmp_path}/run"]
    assert main(words) == 0
    require_fingertips(states, observed)


def test_a_fingertip_model_drives_the_twin_from_fingertip_states(
    make_model, states, observed, tmp_path
):
    pytest.importorskip("franky")
    words = [*TWIN, *SMALL, f"model={make_model(state_frame='tcp')}", f"out={tmp_path}/run"]
    assert main([*words, "device=cpu"]) == 0
    require_fingertips(states, observed)
    (log,) = tmp_path.glob("run/logs/*/log.jsonl")
    specs = json.loads(log.read_text().splitlines()[0])["specs"]
    frames = specs["observation"]["state_frame"], specs["arm"]["state_frame"]
    assert frames == ("tcp", "flange")


@pytest.mark.parametrize("where", ["eval", "twin"])
def test_a_model_at_5_hz_is_refused_at_connecting(where, make_model, tmp_path, capsys):
    if where == "twin":
        pytest.importorskip("franky")
    words = [*(EVAL if where == "eval" else TWIN), *SMALL]
    model = make_model(action={"period_s": 0.2})
    assert main([*words, f"model={model}", f"out={tmp_path}/run"]) == 2
    said = capsys.readouterr().err
    assert "0.2 s" in said
    assert "trained at 4 Hz" in said
    assert not list(tmp_path.glob("run/logs/*"))


@pytest.mark.parametrize("size", [64, 256])
def test_a_model_of_any_image_size_is_evaluated_and_driven(size, make_model, monkeypatch, tmp_path):
    sizes, encode = [], FrameEncoder.encode

    def spy(self, frames_BHWC):
        sizes.append(tuple(frames_BHWC.shape[1:3]))
        return encode(self, frames_BHWC)

    monkeypatch.setattr(FrameEncoder, "encode", spy)
    model = make_model(image_size=size)
    assert main([*EVAL, *SMALL, f"model={model}", f"out={tmp_path}/eval"]) == 0
    words = ["drive", "robot=mujoco", "task=reach", "sub_goals=one", *SMALL, "device=cpu"]
    assert main([*words, f"model={model}", f"out={tmp_path}/drive"]) == 0
    assert set(sizes) == {(size, size)}
    (picture,) = list(tmp_path.glob("drive/logs/*/frame-0000.png"))
    with Image.open(picture) as frame:
        assert frame.size == (size, size)  # rendered at this size, not resized to it
