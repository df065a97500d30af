"""The policy: one search per environment and step, and its first action.

Shapes: B environments, C channels, H W pixels, A numbers of an action (7), S of a state (7).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from PIL import Image
from torch import Tensor

from lerobot_policy_worldmodel.configuration_worldmodel import WorldmodelConfig
from planning.planner import PlannerConfig
from planning.policy import Policy
from planning.solvers.cem import CEM
from robot.arm import ArmSpec
from worldmodel import load_world_model


def to_image(pixels_CHW: Tensor) -> np.ndarray:
    """Return an image of lerobot, floats of 0 to 1 [C, H, W], as uint8 [H, W, C]."""
    pixels = pixels_CHW.detach().float().cpu()
    if (
        pixels.shape[0] != 3
    ):  # an observation that lerobot does not know as an image stays [H, W, C]
        pixels = pixels.permute(2, 0, 1)
    scale = 1.0 if float(pixels.max()) > 1.5 else 255.0
    return (pixels * scale).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


class WorldmodelPolicy(PreTrainedPolicy):
    """Plans toward a goal image, as `worldmodel eval` does.

    An action is the change of position [m] and of Euler angles [rad], and the gripper command, as
    in DROID. The environment or the robot must take such actions at the model's period.
    """

    config_class = WorldmodelConfig
    name = "worldmodel"

    def __init__(self, config: WorldmodelConfig, **_: object) -> None:
        """Load the world model, and the goal image if one is given; lerobot passes statistics."""
        super().__init__(config)
        config.validate_features()
        self.world = load_world_model(config.model, config.device or "auto")
        search = CEM(
            num_samples=config.num_samples,
            iterations=config.iterations,
            num_elites=config.num_elites,
        )
        arm = ArmSpec(
            period_s=self.world.action_spec.period_s,
            max_step_m=config.max_step_m,
            state_frame=config.state_frame,
        )
        self.planner = Policy(self.world, PlannerConfig(optimiser=search)).connect(arm)
        self.goal_1ND = None
        if config.goal:
            picture = Image.open(config.goal).convert("RGB")
            self.goal_1ND = self.planner.encode(np.asarray(picture))
        self.reset()

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path, *, config=None, **_: object):
        """Load the options; `model` in them names the weights."""
        config = config or cls.config_class.from_pretrained(pretrained_name_or_path)
        return cls(config).eval()

    def _save_pretrained(self, save_directory: Path, state_dict=None) -> None:
        """Write the options; the weights stay where `model` names them."""
        self.config._save_pretrained(save_directory)  # noqa: SLF001 - as its own policies do

    def get_optim_params(self) -> dict:
        """Return nothing: lerobot does not train this policy."""
        return {}

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict | None]:
        """Refuse to train.

        Raises:
            NotImplementedError: Always; `worldmodel train` trains world models.
        """
        raise NotImplementedError("Train with `worldmodel train`, and give the result as model=")

    def reset(self) -> None:
        """Begin a new episode: forget the searches and the goals of the last one."""
        self.memories, self.goals = {}, {}

    def goal_of(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Return the goal's tokens [1, N, D] of an environment.

        Raises:
            ValueError: There is no goal.
        """
        if self.config.goal_key not in batch:
            if self.goal_1ND is None:
                raise ValueError(
                    f"There is no goal: give --policy.goal=IMAGE, or observations with "
                    f"{self.config.goal_key!r}"
                )
            return self.goal_1ND
        image = to_image(batch[self.config.goal_key][index])
        known = self.goals.get(index)
        if known is None or not np.array_equal(known[0], image):
            self.goals[index] = (image, self.planner.encode(image))
        return self.goals[index][1]

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **_: object) -> Tensor:
        """Return the plans [B, K, A]."""
        key = self.config.image_key or next(iter(self.config.image_features))
        plans = []
        for index, state_S in enumerate(batch[self.config.state_key]):
            seen = {"image": to_image(batch[key][index]), "state": state_S.cpu().numpy()}
            goal = self.goal_of(batch, index)
            plan, self.memories[index] = self.planner.plan(seen, goal, self.memories.get(index))
            plans.append(plan.actions_KA)
        return torch.stack(plans)

    def select_action(self, batch: dict[str, Tensor], **_: object) -> Tensor:
        """Return the first actions [B, A]; the next call plans again."""
        return self.predict_action_chunk(batch)[:, 0]
