"""The policy and environment of examples/lerobot_policy in lerobot 0.6, which needs Python 3.12."""

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

lerobot_eval = pytest.importorskip("lerobot.scripts.lerobot_eval", exc_type=ImportError)
PACKAGE = Path(__file__).parents[2] / "examples" / "lerobot_policy"
SEARCH = {"num_samples": 128, "iterations": 3, "num_elites": 16}


@pytest.fixture
def plugin(monkeypatch):
    """The package, as when lerobot imports its plugins: it registers itself."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    import lerobot_policy_worldmodel

    return lerobot_policy_worldmodel


@pytest.fixture
def config(plugin):
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.factory import make_policy_config

    assert plugin.WorldmodelConfig
    made = make_policy_config("worldmodel", device="cpu", **SEARCH)
    made.input_features = {
        "observation.image": PolicyFeature(type=FeatureType.VISUAL, shape=(3, 128, 128)),
        "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(7,)),
    }
    return made


def test_lerobots_rollout_reaches_goals_in_two_environments(config, tmp_path):
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.processor import PolicyProcessorPipeline
    from lerobot_policy_worldmodel.environment_worldmodel import GYM_ID

    policy = get_policy_class("worldmodel")(config)
    before, after = make_pre_post_processors(config)
    env = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(GYM_ID, task="reach")] * 2)
    nothing = PolicyProcessorPipeline(steps=[])
    found = lerobot_eval.rollout(env, policy, nothing, nothing, before, after, seeds=[1, 2])
    env.close()
    assert found["action"].shape[2] == 7
    assert found["success"].any(dim=1).all()

    for part in (policy, before, after):  # the folder of --policy.path=
        part.save_pretrained(tmp_path)
    make_pre_post_processors(config, pretrained_path=str(tmp_path))
    again = get_policy_class("worldmodel").from_pretrained(tmp_path)
    assert again.config.num_samples == config.num_samples
    image = torch.from_numpy(np.full((1, 3, 128, 128), 0.4, np.float32))
    batch = {"observation.image": image, "observation.state": torch.zeros(1, 7)}
    with pytest.raises(ValueError, match="There is no goal"):
        again.select_action(batch)


@pytest.mark.parametrize("words", [[], ["--env.embodiment=droid"]])
def test_lerobot_eval_itself_measures_success(plugin, monkeypatch, tmp_path, words):
    given = ["--policy.type=worldmodel", "--policy.device=cpu", "--env.type=worldmodel", *words]
    given += [f"--policy.{name}={value}" for name, value in SEARCH.items()]
    given += ["--eval.n_episodes=2", "--eval.batch_size=2", "--eval.use_async_envs=false"]
    monkeypatch.setattr(sys, "argv", ["lerobot-eval", *given, f"--output_dir={tmp_path / 'out'}"])
    lerobot_eval.main()
    found = json.loads((tmp_path / "out" / "eval_info.json").read_text())["overall"]
    assert found["n_episodes"] == 2
    assert words or found["pc_success"] == 100.0
