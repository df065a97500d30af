"""Options of the policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import PreTrainedConfig
from lerobot.configs.types import NormalizationMode


@PreTrainedConfig.register_subclass("worldmodel")
@dataclass
class WorldmodelConfig(PreTrainedConfig):
    """Plan with a world model toward goal images."""

    model: str = "default"
    """World model: an embedded or published name, a file, a folder, or USER/NAME of the hub."""
    goal: str = ""
    """Image file of the goal; observations may hold it instead, under `goal_key`."""
    image_key: str = ""
    """Observation with the camera's image (empty: the only image)."""
    state_key: str = "observation.state"
    """Observation with position [m], extrinsic xyz Euler angles [rad] and closedness."""
    goal_key: str = "observation.goal"
    """Observation with the goal image of each environment, if there is one."""
    state_frame: str = "flange"
    """Frame whose pose the state holds: flange or tcp (fingertips)."""
    max_step_m: float = 0.075
    """Largest move of an action [m]."""
    num_samples: int = 150
    """Number of plans that an iteration of the search imagines."""
    iterations: int = 4
    """Number of iterations of the search."""
    num_elites: int = 12
    """Number of best plans that the next iteration is drawn around."""
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(
            ("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY
        )
    )
    """No normalisation: the world model has its own."""

    @property
    def observation_delta_indices(self) -> list[int]:
        """Return the frames that the policy sees: the current one."""
        return [0]

    @property
    def action_delta_indices(self) -> None:
        """Return None: the policy is not trained by lerobot."""
        return

    @property
    def reward_delta_indices(self) -> None:
        """Return None: the policy is not trained by lerobot."""
        return

    def get_optimizer_preset(self) -> None:
        """Refuse to train.

        Raises:
            NotImplementedError: Always; `worldmodel train` trains world models.
        """
        raise NotImplementedError("Train with `worldmodel train`, and give the result as model=")

    def get_scheduler_preset(self) -> None:
        """Return None: the policy is not trained by lerobot."""
        return

    def validate_features(self) -> None:
        """Check that there is an image that the policy can tell.

        Raises:
            ValueError: There is no image, or several and no `image_key`.
        """
        names = list(self.image_features)
        if self.image_key not in names and (self.image_key or len(names) != 1):
            raise ValueError(
                f"image_key={self.image_key!r} is none of the images {names}: name the camera that "
                "the world model was trained on"
            )
