"""What a checkpoint promises is obeyed wherever it is used: images, state frame, period."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import envs
from planning.apps.policies import SIMULATED_BOX_M, open_policy
from planning.cli.app import main
from planning.goals import read_image
from planning.options import PlannerOptions
from robot.arm import ArmSpec
from worldmodel import load_world_model
from worldmodel.checkpoints.io import save
from worldmodel.data.flat_arrays import DecodeOptions
from worldmodel.models.world_model import WorldModel

QUICK = PlannerOptions(samples=16, iterations=1)


def promise(path, **changes):
    """The embedded model with other promises: fields of its observation or action spec."""
    model = load_world_model("default", "cpu")
    config = model.config
    specs = {
        part: dataclasses.replace(spec, **{k: v for k, v in changes.items() if hasattr(spec, k)})
        for part, spec in (("observation", config.observation), ("action", config.action))
    }
    other = WorldModel.from_config(dataclasses.replace(config, **specs))
    other.load_state_dict(model.state_dict())
    save(path, other.eval())
    return path


@pytest.mark.parametrize("size", [(512, 512), (480, 640), (256, 256), (640, 480)])
def test_one_picture_has_the_same_tokens_everywhere(size, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "now.png")
    policy = open_policy("default", QUICK, device="cpu")
    model = policy.model
    trained = DecodeOptions(image_size=max(policy.image_size)).preprocess(torch.from_numpy(image))
    tokens = {
        "training": model.encode(trained[None]),
        "plan": policy.encode(read_image(tmp_path / "now.png")),
        "eval": policy.observe(image, np.zeros(7)).z_1ND,
        "drive": policy.observe(policy.preprocess(image), np.zeros(7)).z_1ND,
        "encode": model.encode(model.preprocess(torch.from_numpy(image)[None])),
    }
    assert all(torch.equal(found, tokens["training"]) for found in tokens.values())


def test_a_model_of_fingertip_states_gets_them_from_an_arm_that_reports_its_flange(tmp_path):
    path = promise(tmp_path / "tcp.safetensors", state_frame="tcp")
    env = envs.make("reach")
    seen, info = env.reset(seed=3)
    policy = open_policy(str(path), QUICK, device="cpu").connect(env.arm_spec, SIMULATED_BOX_M)
    observed = policy.observe(seen["image"], seen["state"])
    np.testing.assert_allclose(observed.state_1S[0, :3], info["tcp_m"], atol=1e-3)
    assert observed.position_m == pytest.approx(seen["state"][:3])
    words = ["eval", "task=reach", "episodes=1", "workers=1", "baselines=false", f"model={path}"]
    assert main([*words, "samples=16", "iterations=1", f"out={tmp_path}/eval"]) == 0


@pytest.mark.parametrize(
    "command", [["eval", "task=reach", "workers=2"], ["drive", "robot=mujoco", "task=reach"]]
)
def test_a_model_of_another_period_is_refused_when_connecting(command, tmp_path, capsys):
    path = promise(tmp_path / "fast.safetensors", period_s=0.2)
    assert main([*command, f"model={path}", f"out={tmp_path}/out"]) != 0
    assert "spans 0.2 s, an action of the arm 0.25 s" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/**/*.html"))
    policy = open_policy(str(path), QUICK, device="cpu")
    assert policy.connect(ArmSpec(period_s=0.2)).period_s == 0.2
