"""What a checkpoint promises is obeyed when it meets an arm: state frame and period."""

import dataclasses

import numpy as np
import pytest

import envs
from planning.apps.policies import open_policy
from planning.apps.workspace import SIMULATED_BOX_M
from planning.cli.app import main
from planning.planner_options import PlannerOptions
from robot.arm import ArmSpec
from worldmodel import load_world_model
from worldmodel.checkpoints.io import save
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
