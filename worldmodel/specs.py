"""What a checkpoint promises about its inputs and outputs; compared when model and arm connect.

Every world model and every frame encoder has an `ObservationSpec`; every world model and every
latent dynamics has an `ActionSpec`. Both travel inside the checkpoint. This module imports neither
torch nor any other heavy package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from worldmodel.constants import MAX_ROTATION_RAD, MAX_STEP_M, PERIOD_S, POSE_DIM
from worldmodel.errors import ConfigError

Gripper = Literal["difference", "command"]
StateFrame = Literal["flange", "tcp"]
Transform = Literal["published", "droid", "squeeze", "center_crop"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def require_number(
    name: str, value: object, low: float, high: float, *, whole: bool = False
) -> None:
    """Check that a value is a finite number in a closed range.

    Args:
        name: what the value is called in the message.
        value: the value to check.
        low: smallest value allowed.
        high: largest value allowed.
        whole: accept integers only.

    Raises:
        ConfigError: the value is no number, is not finite, or is out of range.
    """
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ConfigError(f"{name}={value!r} must be {'an integer' if whole else 'a number'}")
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name}={value!r} is out of range: use {low:g} to {high:g}")


def require_choice(name: str, value: object, choices: object) -> None:
    """Check that a value is one of a Literal's choices.

    Raises:
        ConfigError: it is not.
    """
    allowed = get_args(choices)
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} is unknown: use {', '.join(map(str, allowed))}")


def require_numbers(
    name: str, values: object, length: int, low: float = -math.inf, high: float = math.inf
) -> None:
    """Check a tuple of `length` finite numbers.

    Raises:
        ConfigError: wrong type, length or range.
    """
    if not isinstance(values, tuple) or len(values) != length:
        raise ConfigError(f"{name}={values!r} must hold {length} numbers")
    for i, value in enumerate(values):
        require_number(f"{name}[{i}]", value, low, high)


@dataclass(frozen=True, kw_only=True)
class ObservationSpec:
    """What a model sees: how images reach it, and what its state vector means."""

    image_size: tuple[int, int] = (256, 256)
    """Height and width of the image that the network takes [px]."""
    transform: Transform = "droid"
    """How an image of any size reaches `image_size`; see `worldmodel.data.transforms`."""
    cameras: tuple[str, ...] = ("left",)
    """Names of the cameras, in order; V-JEPA 2-AC uses DROID's left external camera."""
    frames_per_token: int = 2
    """Frames of one token; a single frame is repeated this often (V-JEPA 2-AC: 2)."""
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of R, G and B that is subtracted after scaling to 0 .. 1."""
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of R, G and B by which the difference is divided."""
    state_frame: StateFrame = "flange"
    """Frame whose pose in the robot's base frame the state holds."""
    state_dim: int = POSE_DIM
    """Length of the state vector; 7 is the DROID pose."""

    def __post_init__(self) -> None:
        if not isinstance(self.image_size, tuple) or len(self.image_size) != 2:
            raise ConfigError(f"image_size={self.image_size!r} must be (height, width)")
        for name, value in zip(("height", "width"), self.image_size, strict=True):
            require_number(f"image_size {name}", value, 1, 4096, whole=True)
        require_choice("transform", self.transform, Transform)
        if not self.cameras or not all(isinstance(c, str) and c for c in self.cameras):
            raise ConfigError(f"cameras={self.cameras!r} must name at least one camera")
        require_number("frames_per_token", self.frames_per_token, 1, 16, whole=True)
        require_numbers("pixel_mean", self.pixel_mean, 3, -10.0, 10.0)
        require_numbers("pixel_std", self.pixel_std, 3, 1e-6, 10.0)
        require_choice("state_frame", self.state_frame, StateFrame)
        require_number("state_dim", self.state_dim, 1, 1024, whole=True)


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """What one action means, how long it lasts, and how large it may be."""

    action_dim: int = POSE_DIM
    """Length of the action vector; 7 is the DROID pose difference."""
    gripper: Gripper = "difference"
    """Last number of the action: the change of closedness, or a command (-1 open, 0 keep,
    +1 close)."""
    period_s: float = PERIOD_S
    """Time that one action spans [s]."""
    max_step_m: float = MAX_STEP_M
    """Largest translation of one action along an axis [m]."""
    max_rotation_rad: float = MAX_ROTATION_RAD
    """Largest rotation of one action about an axis [rad]."""

    def __post_init__(self) -> None:
        require_number("action_dim", self.action_dim, 1, 1024, whole=True)
        require_choice("gripper", self.gripper, Gripper)
        require_number("period_s", self.period_s, 1e-3, 60.0)
        require_number("max_step_m", self.max_step_m, 1e-6, 1.0)
        require_number("max_rotation_rad", self.max_rotation_rad, 0.0, math.pi)
