"""Options of `worldmodel collect`; imports neither MuJoCo nor PyTorch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from envs.errors import ConfigError
from robot.ranges import between, check_ranges

Shape = Literal["cube", "box", "cup", "cylinder", "long_box", "T", "L"]
Split = Literal["train", "held_out"]
CameraName = Literal["left", "right", "wrist"]
EmbodimentName = Literal["franka", "droid"]
Fidelity = Literal["fast", "visual"]
Start = Literal["pick_place", "push_pose", "two_objects", "over_wall"]
Mix = Literal["play", "contact", "carry", "push"]
Format = Literal["droid", "lerobot"]
Factor = Literal[
    "none",
    "object_color",
    "object_size",
    "shape",
    "table_texture",
    "light",
    "camera",
    "mass_friction",
    "distractor",
    "gripper_speed",
    "play_goal",
]
FACTORS: tuple[str, ...] = get_args(Factor)
"""Changes of a scene that training never showed, one at a time; see `envs.factors`."""
OBJECTS: tuple[str, ...] = get_args(Shape)
"""Object shapes; `cylinder` and `L` are reserved for evaluation."""
CAMERA_NAMES: tuple[str, ...] = get_args(CameraName)
TABLE_OPTIONS = (
    "mix",
    "split",
    "fidelity",
    "objects",
    "objects_per_scene",
    "walls",
    "turned",
    "cameras",
    "embodiment",
)
"""Options of the table's scene, without effect in other environments."""


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Options of a simulated data set.

    Raises:
        ConfigError: A value is out of its range or not among its choices.
    """

    out: str = "runs/data/train"
    """Folder to write the data set to."""
    environment: str = ""
    """Environment in place of the table (docs/your-environment.md): a registered name, your own as
    module:Class, or a Gymnasium id (empty: the table's scene)."""
    episodes: int = field(default=2400, metadata=between(1, 10_000_000))
    """Number of episodes."""
    length: int = field(default=28, metadata=between(2, 100_000, "control steps"))
    """Control steps per episode, at 4 Hz."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the first episode; episode i uses seed + i."""
    mix: Mix = "play"
    """Policies: play (50 % play, 20 % demonstrations, 30 % reaches), contact (45 % pushes that end
    in a grasp, 25 % picks, 15 % play, 5 % demonstrations, 10 % reaches), carry (80 % picks, 20 %
    pushes), or push (such pushes alone)."""
    split: Split = "train"
    """Appearance distribution; held_out uses colours and textures unseen in training."""
    image_size: int = field(default=128, metadata=between(16, 2048, "px"))
    """Height of the images, which are square or, with embodiment=droid, of 16:9 [px]; H.264 needs
    an even number."""
    workers: int = field(default=2, metadata=between(1, 1024))
    """Number of worker processes."""
    fidelity: Fidelity = "fast"
    """Appearance of the arm: fast shows the collision meshes, visual the detailed ones."""
    objects: tuple[Shape, ...] = ("cube",)
    """Object shapes; each episode picks one at random for each object."""
    objects_per_scene: tuple[float, ...] = field(default=(1.0,), metadata=between(0, 1))
    """Shares of scenes with one, two and three objects; they sum to 1."""
    task: Start = "pick_place"
    """Task whose starts and targets the episodes are drawn from. over_wall, push_pose and
    two_objects set the number of objects, their yaws and the wall themselves, and four of
    five of their picks carry the object to its target."""
    walls: float = field(default=0.0, metadata=between(0, 1))
    """Share of the scenes with one object that have a wall."""
    turned: float = field(default=0.0, metadata=between(0, 1))
    """Share of objects with a random yaw; the others start at yaw 0."""
    cameras: tuple[CameraName, ...] = ("left",)
    """Cameras to record."""
    embodiment: EmbodimentName = "franka"
    """Gripper and cameras: franka (the Franka hand, square images), or droid (the robot of the
    DROID data set: Robotiq 2F-85, images of 16:9)."""
    format: Format = "droid"
    """Layout: droid (raw DROID), or lerobot, which keeps those recordings in out/raw and writes the
    LeRobot data set (v3.0) made of them to out."""

    def __post_init__(self) -> None:
        self._check_environment()
        for name in ("objects", "cameras", "objects_per_scene"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; allowed: at least one")
        check_ranges(self, ConfigError)
        if self.image_size % 2:
            raise ConfigError(f"image_size={self.image_size}; allowed: even numbers (H.264 video)")
        placed = self.objects_per_scene != (1.0,) or self.walls or self.turned
        if self.task != "pick_place" and placed:
            raise ConfigError(
                f"objects_per_scene, walls and turned have no effect with task={self.task}, which "
                "sets them: leave them out, or set task=pick_place"
            )
        shares = self.objects_per_scene
        if len(shares) > 3 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(
                f"objects_per_scene={list(shares)}; allowed: one to three shares that sum to 1"
            )

    def _check_environment(self) -> None:
        """Reject options of the table's scene in another environment."""
        if not self.environment:
            return
        own = {item.name: item for item in fields(self) if item.name in TABLE_OPTIONS}
        unused = [
            f"{name}={getattr(self, name)}"
            for name, item in own.items()
            if _plain(getattr(self, name)) != _plain(item.default)
        ]
        if unused:
            raise ConfigError(
                f"{' '.join(unused)} has no effect with environment={self.environment}, which has "
                "its own scene; leave it out"
            )
