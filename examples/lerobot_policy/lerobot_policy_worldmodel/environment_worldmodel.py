"""The simulated table as an environment of lerobot: `--env.type=worldmodel --env.task=reach`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_STATE

import envs
from envs.embodiment import get_embodiment

GYM_ID = "worldmodel/Table-v0"


class Table(gymnasium.Wrapper):
    """Our environment with the names of observations that lerobot knows, and the goal image.

    Tasks with several goal images (pick_place) show the next one after its step budget.
    """

    def __init__(self, **options: Any) -> None:
        """Create the environment.

        Args:
            **options: Those of `envs.make`.
        """
        super().__init__(envs.make(**options, terminate_on_success=True))
        image, state = (self.env.observation_space[name] for name in ("image", "state"))
        spaces = {"pixels": image, "agent_pos": state, "goal": image}
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.task = self.task_description = f"{self.env.task.name}: the scene of the goal image"
        self._max_episode_steps = self.env.max_steps

    def _named(self, seen: dict[str, Any]) -> dict[str, Any]:
        goal = self.goals[min(self.index, len(self.goals) - 1)]
        return {"pixels": seen["image"], "agent_pos": seen["state"], "goal": goal.image}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode and render its goal images."""
        seen, info = self.env.reset(seed=seed)
        self.goals, self.index, self.spent = self.env.sub_goals(), 0, 0
        return self._named(seen), info | {"is_success": False}

    def step(self, action: Any) -> Any:
        """Advance by one action."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        self.spent += 1
        if self.spent >= self.goals[min(self.index, len(self.goals) - 1)].steps:
            self.index, self.spent = self.index + 1, 0
        info["is_success"] = bool(info["success"])
        return self._named(seen), reward, terminated, truncated, info


gymnasium.register(GYM_ID, entry_point=Table)


@EnvConfig.register_subclass("worldmodel")
@dataclass
class WorldmodelEnv(EnvConfig):
    """Options of the environment."""

    task: str = "reach"
    """Task of `worldmodel eval`."""
    fps: int = 4
    """Actions a second."""
    image_size: int = 128
    """Height of the images [px]."""
    embodiment: str = "franka"
    """Gripper and cameras: franka or droid."""
    features_map: dict[str, str] = field(
        default_factory=lambda: {"action": ACTION, "pixels": OBS_IMAGE, "agent_pos": OBS_STATE}
    )
    """Names of observations and actions in lerobot."""

    def __post_init__(self) -> None:
        """Describe observations and actions; lerobot has no kind of feature for the goal image."""
        width = get_embodiment(self.embodiment).width_px(self.image_size)
        shape = (self.image_size, width, 3)
        self.features = {
            "action": PolicyFeature(type=FeatureType.ACTION, shape=(7,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(7,)),
            "pixels": PolicyFeature(type=FeatureType.VISUAL, shape=shape),
        }

    @property
    def gym_id(self) -> str:
        """Id of the environment."""
        return GYM_ID

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Options of the environment."""
        return {"task": self.task, "image_size": self.image_size, "embodiment": self.embodiment}
