"""Input and action conventions of a checkpoint, checked when a model is connected to an arm.

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
Precision = Literal["auto", "float32", "bfloat16"]
"""Data type of a model's weights; `auto` is decided in `worldmodel.models.precision`."""

DEFAULT_CAMERA = "left"
"""Camera of a model and of data where none is named."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_VIEWS = 8
"""Maximum number of cameras of a model."""


def check_views(views: tuple[str, ...]) -> None:
    """Check that the names of cameras differ, and that there are not too many.

    Raises:
        ConfigError: A name is empty or given twice, or there are too many.
    """
    if not all(views) or len(set(views)) < len(views) or len(views) > MAX_VIEWS:
        raise ConfigError(
            f"views={list(views)}; allowed: up to {MAX_VIEWS} different names of cameras"
        )


def chosen_views(camera: str, views: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cameras that `camera=` or `views=` names, the main one first.

    Raises:
        ConfigError: Both name a main camera, and they differ; or `views` is not valid.
    """
    check_views(views)
    if views and camera not in (views[0], DEFAULT_CAMERA):
        raise ConfigError(
            f"camera={camera} contradicts views={list(views)}, whose first camera is the main one: "
            "leave camera out"
        )
    return views or (camera,)


@dataclass(frozen=True, kw_only=True)
class ObservationSpec(Checked):
    """Observations of a model: image pre-processing and state vector."""

    image_size: tuple[int, int] = field(default=(256, 256), metadata=between(1, 4096))
    """Height and width of the network's input images [px]."""
    transform: Transform = "droid"
    """Transform from images of any size to `image_size`; see `worldmodel.data.transforms`."""
    cameras: tuple[str, ...] = ("left",)
    """Camera names in order; V-JEPA 2-AC uses DROID's left exterior camera. Of several cameras, a
    frame's tokens are those of each view, one behind the other; the first is the main view."""
    frames_per_token: int = field(default=2, metadata=between(1, 16))
    """Frames per token; a single frame is repeated this many times (V-JEPA 2-AC: 2)."""
    pixel_mean: tuple[float, float, float] = field(default=IMAGENET_MEAN, metadata=between(-10, 10))
    """Mean of R, G and B, subtracted after scaling to 0 .. 1."""
    pixel_std: tuple[float, float, float] = field(default=IMAGENET_STD, metadata=between(1e-6, 10))
    """Standard deviation of R, G and B, by which the difference is divided."""
    state_frame: StateFrame = "flange"
    """Frame whose pose, in the robot base frame, the state holds."""
    state_dim: int = field(default=POSE_DIM, metadata=between(1, 1024))
    """Length of the state vector; 7 is the DROID pose."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cameras or not all(isinstance(c, str) and c for c in self.cameras):
            raise ConfigError(f"cameras={self.cameras!r} must name at least one camera")
        check_views(self.cameras)


@dataclass(frozen=True, kw_only=True)
class ActionSpec(Checked):
    """Actions of a model: meaning, duration and limits."""

    action_dim: int = field(default=POSE_DIM, metadata=between(1, 1024))
    """Length of the action vector; 7 is the DROID pose difference."""
    gripper: Gripper = "difference"
    """Meaning of the last component: change of closedness, or command (-1 open, 0 keep, +1
    close)."""
    period_s: float = field(default=PERIOD_S, metadata=between(1e-3, 60))
    """Duration of an action [s]."""
    max_step_m: float = field(default=MAX_STEP_M, metadata=between(1e-6, 1))
    """Maximum translation of one action along an axis [m]."""
    max_rotation_rad: float = field(default=MAX_ROTATION_RAD, metadata=between(0, math.pi))
    """Maximum angle of the rotation of one action [rad]."""
