"""Options of `worldmodel collect`; imports neither MuJoCo nor PyTorch, so that help is fast."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from envs.errors import ConfigError

OBJECTS = ("cube", "box", "cup", "cylinder")
"""Object shapes; `cylinder` is the held-out split's unseen shape."""
SPLIT_NAMES = ("train", "held_out")
CAMERA_NAMES = ("left", "right", "wrist")
FIDELITY_NAMES = ("fast", "visual")


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Options of a simulated data set.

    Raises:
        ConfigError: A value is out of its range or not among its choices.
    """

    out: str = "runs/data/train"
    """Folder of the data set."""
    episodes: int = field(default=2400, metadata={"min": 1})
    """Number of episodes."""
    length: int = field(default=28, metadata={"min": 2, "unit": "control steps"})
    """Control steps per episode, four per second."""
    seed: int = field(default=0, metadata={"min": 0})
    """Seed of the first episode; episode i uses seed + i."""
    split: str = "train"
    """Distribution of appearances: train or held_out."""
    image_size: int = field(default=128, metadata={"min": 16, "max": 2048, "unit": "px"})
    """Side of the square pictures [px]; even, as H.264 needs it."""
    workers: int = field(default=2, metadata={"min": 1})
    """Worker processes."""
    fidelity: str = "fast"
    """Appearance of the arm: fast (collision meshes) or visual (detailed meshes)."""
    objects: tuple[str, ...] = ("cube",)
    """Object shapes to draw from: cube, box, cup, cylinder."""
    cameras: tuple[str, ...] = ("left",)
    """Cameras to record: left, right, wrist."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("episodes", 1, math.inf),
            ("length", 2, math.inf),
            ("seed", 0, math.inf),
            ("image_size", 16, 2048),
            ("workers", 1, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                most = "" if high == math.inf else f", at most {high}"
                raise ConfigError(f"{name}={value}; allowed: at least {low}{most}")
        if self.image_size % 2:
            raise ConfigError(f"image_size={self.image_size}; allowed: even numbers (H.264 video)")
        _check_choices("split", (self.split,), SPLIT_NAMES)
        _check_choices("fidelity", (self.fidelity,), FIDELITY_NAMES)
        for name, known in (("objects", OBJECTS), ("cameras", CAMERA_NAMES)):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            _check_choices(name, values, known)


def _check_choices(name: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    wrong = [value for value in values if value not in known]
    if wrong or not values:
        found = wrong[0] if wrong else "empty"
        raise ConfigError(f"{name} is {found!r}; allowed: {', '.join(known)}")
