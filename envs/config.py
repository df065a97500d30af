"""Options of `worldmodel collect`; imports neither MuJoCo nor PyTorch, so that `--help` is fast."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from envs.errors import ConfigError

Shape = Literal["cube", "box", "cup", "cylinder"]
Split = Literal["train", "held_out"]
CameraName = Literal["left", "right", "wrist"]
Fidelity = Literal["fast", "visual"]
OBJECTS: tuple[str, ...] = get_args(Shape)
"""Object shapes; `cylinder` is reserved for the held-out split."""
CAMERA_NAMES: tuple[str, ...] = get_args(CameraName)


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Options of a simulated data set.

    Raises:
        ConfigError: A value is out of its range or not among its choices.
    """

    out: str = "runs/data/train"
    """Folder to write the data set to."""
    episodes: int = field(default=2400, metadata={"min": 1})
    """Number of episodes."""
    length: int = field(default=28, metadata={"min": 2, "unit": "control steps"})
    """Control steps per episode, at 4 Hz."""
    seed: int = field(default=0, metadata={"min": 0})
    """Seed of the first episode; episode i uses seed + i."""
    split: Split = "train"
    """Appearance distribution; held_out uses colours and textures unseen in training."""
    image_size: int = field(default=128, metadata={"min": 16, "max": 2048, "unit": "px"})
    """Side of the square images [px]; H.264 needs an even number."""
    workers: int = field(default=2, metadata={"min": 1})
    """Number of worker processes."""
    fidelity: Fidelity = "fast"
    """Appearance of the arm: fast shows the collision meshes, visual the detailed ones."""
    objects: tuple[Shape, ...] = ("cube",)
    """Object shapes; each episode picks one at random."""
    cameras: tuple[CameraName, ...] = ("left",)
    """Cameras to record."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value, low = getattr(self, item.name), item.metadata.get("min")
            high = item.metadata.get("max", math.inf)
            if low is not None and not low <= value <= high:
                most = "" if high == math.inf else f", at most {high}"
                raise ConfigError(f"{item.name}={value}; allowed: at least {low}{most}")
        if self.image_size % 2:
            raise ConfigError(f"image_size={self.image_size}; allowed: even numbers (H.264 video)")
        _check_choices("split", (self.split,), get_args(Split))
        _check_choices("fidelity", (self.fidelity,), get_args(Fidelity))
        for name, known in (("objects", OBJECTS), ("cameras", CAMERA_NAMES)):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            _check_choices(name, values, known)


def _check_choices(name: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    wrong = [value for value in values if value not in known]
    if wrong or not values:
        found = wrong[0] if wrong else "empty"
        raise ConfigError(f"{name} is {found!r}; allowed: {', '.join(known)}")
