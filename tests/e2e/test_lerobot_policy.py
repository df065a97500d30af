"""The policy of examples/lerobot_policy in lerobot's rollout; needs lerobot 0.6, Python 3.12."""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

lerobot_eval = pytest.importorskip("lerobot.scripts.lerobot_eval", exc_type=ImportError)
PACKAGE = Path(__file__).parents[2] / "examples" / "lerobot_policy"
SEARCH = {"num_samples": 128, "iterations": 3, "num_elites": 16}


class Reach(gymnasium.Wrapper):
    """Our environment with the names of observations that lerobot knows."""

    task = task_description = "reach the goal image"
    _max_episode_steps = 6

    def __init__(self):
        import envs

        super().__init__(envs.make("reach", terminate_on_success=True))
        image, state = (self.env.observation_space[name] for name in ("image", "state"))
        spaces = {"pixels": image, "agent_pos": state, "goal": image}
        self.observation_space = gymnasium.spaces.Dict(spaces)

    def _named(self, seen):
        return {"pixels": seen["image"], "agent_pos": seen["state"], "goal": self.goal}

    def reset(self, *, seed=None, options=None):
        seen, info = self.env.reset(seed=seed)
        self.goal = self.env.unwrapped.sub_goals()[-1].image
        return self._named(seen), info

    def step(self, action):
        seen, reward, terminated, truncated, info = self.env.step(action)
        info["is_success"] = bool(info["success"])
        return self._named(seen), reward, terminated, truncated, info


@pytest.fixture
def config(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    import lerobot_policy_worldmodel  # registers itself, as when lerobot imports its plugins
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.factory import make_policy_config

    assert lerobot_policy_worldmodel.WorldmodelConfig
    made = make_policy_config("worldmodel", device="cpu", **SEARCH)
    made.input_features = {
        "observation.image": PolicyFeature(type=FeatureType.VISUAL, shape=(3, 128, 128)),
        "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(7,)),
    }
    yield made
    sys.modules.pop("lerobot_policy_worldmodel", None)


def test_lerobots_rollout_reaches_goals_in_two_environments(config, tmp_path):
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.processor import PolicyProcessorPipeline

    policy = get_policy_class("worldmodel")(config)
    before, after = make_pre_post_processors(config)
    env = gymnasium.vector.SyncVectorEnv([Reach, Reach])
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
