"""What a checkpoint promises about its inputs and outputs; compared when model and arm connect.

Every world model and every frame encoder has an `ObservationSpec`; every world model and every
latent dynamics has an `ActionSpec`. Both travel inside the checkpoint. This module imports neither
torch nor any other heavy package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.constants import MAX_ROTATION_RAD, MAX_STEP_M, PERIOD_S, POSE_DIM
from worldmodel.errors import ConfigError

Gripper = Literal["difference", "command"]
StateFrame = Literal["flange", "tcp"]
Transform = Literal["published", "droid", "squeeze", "center_crop"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ObservationSpec(Checked):
    """What a model sees: how images reach it, and what its state vector means."""

    image_size: tuple[int, int] = field(default=(256, 256), metadata=between(1, 4096))
    """Height and width of the image that the network takes [px]."""
    transform: Transform = "droid"
    """How an image of any size reaches `image_size`; see `worldmodel.data.transforms`."""
    cameras: tuple[str, ...] = ("left",)
    """Names of the cameras, in order; V-JEPA 2-AC uses DROID's left external camera."""
    frames_per_token: int = field(default=2, metadata=between(1, 16))
    """Frames of one token; a single frame is repeated this often (V-JEPA 2-AC: 2)."""
    pixel_mean: tuple[float, float, float] = field(default=IMAGENET_MEAN, metadata=between(-10, 10))
    """Mean of R, G and B that is subtracted after scaling to 0 .. 1."""
    pixel_std: tuple[float, float, float] = field(default=IMAGENET_STD, metadata=between(1e-6, 10))
    """Standard deviation of R, G and B by which the difference is divided."""
    state_frame: StateFrame = "flange"
    """Frame whose pose in the robot's base frame the state holds."""
    state_dim: int = field(default=POSE_DIM, metadata=between(1, 1024))
    """Length of the state vector; 7 is the DROID pose."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cameras or not all(isinstance(c, str) and c for c in self.cameras):
            raise ConfigError(f"cameras={self.cameras!r} must name at least one camera")


@dataclass(frozen=True, kw_only=True)
class ActionSpec(Checked):
    """What one action means, how long it lasts, and how large it may be."""

    action_dim: int = field(default=POSE_DIM, metadata=between(1, 1024))
    """Length of the action vector; 7 is the DROID pose difference."""
    gripper: Gripper = "difference"
    """Last number of the action: the change of closedness, or a command (-1 open, 0 keep,
    +1 close)."""
    period_s: float = field(default=PERIOD_S, metadata=between(1e-3, 60))
    """Time that one action spans [s]."""
    max_step_m: float = field(default=MAX_STEP_M, metadata=between(1e-6, 1))
    """Largest translation of one action along an axis [m]."""
    max_rotation_rad: float = field(default=MAX_ROTATION_RAD, metadata=between(0, math.pi))
    """Largest rotation of one action about an axis [rad]."""
