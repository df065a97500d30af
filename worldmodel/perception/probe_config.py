"""Options and published recipes of frozen probes; this module imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.specs import Precision

Preset = Literal[
    "k400", "ssv2", "ssv2_64", "coin", "jester", "diving48", "in1k", "places205", "inat21"
]
Levels = Literal["last", "four"]
Rates = tuple[float, ...]
ALL_DECAYS = (0.8, 0.4, 0.1, 0.01)
IMAGE_RATES, IMAGE_DECAYS = (5e-4, 1e-3, 1.5e-3, 2e-3), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
COUNT = between(1, 2**16)


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """A published recipe: clips, levels, schedule and the grid of heads."""

    num_frames: int = field(default=16, metadata=COUNT)
    frame_step: int = field(default=4, metadata=COUNT)
    num_segments: int = field(default=1, metadata=COUNT)
    num_views: int = field(default=1, metadata=COUNT)
    levels: Levels = "last"
    epochs: int = field(default=20, metadata=COUNT)
    batch_size: int = field(default=256, metadata=between(1, 1_000_000))
    rates: Rates = field(default=(5e-3, 3e-3, 1e-3, 3e-4, 1e-4), metadata=between(1e-12, 10))
    decays: Rates = field(default=ALL_DECAYS, metadata=between(0, 10))
    warmup_epochs: int = field(default=0, metadata=between(0, 4096))


_FOUR_LEVELS = Recipe(
    num_frames=32,
    frame_step=2,
    num_segments=4,
    num_views=3,
    levels="four",
    epochs=100,
    batch_size=128,
    rates=(1e-3, 3e-4, 1e-4),
    decays=(0.8,),
)
_IMAGES = Recipe(batch_size=1024, rates=IMAGE_RATES, decays=IMAGE_DECAYS, warmup_epochs=5)
_K400 = Recipe(num_segments=8, num_views=3)
_SSV2 = Recipe(num_segments=2, num_views=3)
RECIPES: dict[str, Recipe] = {
    "k400": _K400,
    "ssv2": _SSV2,
    "ssv2_64": dataclasses.replace(_SSV2, num_frames=64, frame_step=2),
    "coin": dataclasses.replace(_K400, batch_size=128),
    "jester": _FOUR_LEVELS,
    "diving48": _FOUR_LEVELS,
    "in1k": _IMAGES,
    "places205": _IMAGES,
    "inat21": _IMAGES,
}
"""Source: V-JEPA 2 (arXiv 2506.09985), configurations of the frozen evaluations."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions(Checked):
    """How videos become tokens; a value that is not given is that of the preset."""

    preset: Preset | None = None
    """Published recipe (default: the probe's own, else ssv2)."""
    num_frames: int | None = field(default=None, metadata=COUNT)
    """Number of frames of a clip; images are repeated."""
    frame_step: int | None = field(default=None, metadata=COUNT)
    """Number of video frames per frame of the clip."""
    num_segments: int | None = field(default=None, metadata=COUNT)
    """Number of clips, spread over the video."""
    num_views: int | None = field(default=None, metadata=COUNT)
    """Number of crops of each clip in evaluation; training uses the centre."""
    levels: Levels | None = None
    """Encoder blocks that the probe reads: the last one, or the four published ones."""

    def recipe(self, default: Recipe = _SSV2) -> Recipe:
        """Return the preset, or `default` without one, with the values that were given."""
        base = default if self.preset is None else RECIPES[self.preset]
        return dataclasses.replace(
            base,
            num_frames=self.num_frames or base.num_frames,
            frame_step=self.frame_step or base.frame_step,
            num_segments=self.num_segments or base.num_segments,
            num_views=self.num_views or base.num_views,
            levels=self.levels or base.levels,
        )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Checked):
    """Options of `worldmodel probe train`."""

    train: str = ""
    """Training items: a list (`path label` lines, or CSV) or a folder with one folder a class."""
    val: str = ""
    """Unseen items, on which the chosen head is judged."""
    root: str = ""
    """Folder of the relative paths in the lists (default: each list's own folder)."""
    encoder: str = "vjepa2-vitl"
    """Frozen encoder: a published or embedded name, or a file."""
    clips: ClipOptions = field(default_factory=ClipOptions)
    """How videos become tokens."""
    num_heads: int = field(default=16, metadata=between(1, 1024))
    """Number of attention heads of a probe; divides the encoder's width."""
    depth: int = field(default=4, metadata=between(1, 64))
    """Number of attention blocks of a probe."""
    epochs: int | None = field(default=None, metadata=COUNT)
    """Number of passes over the training items (default: the preset's)."""
    batch_size: int | None = field(default=None, metadata=COUNT)
    """Number of items of an update (default: the preset's)."""
    lr: float | None = field(default=None, metadata=between(1e-12, 10))
    """Learning rate of all heads (default: the preset's grid)."""
    weight_decay: float | None = field(default=None, metadata=between(0, 10))
    """Weight decay of all heads (default: the preset's grid)."""
    choose_share: float = field(default=0.1, metadata=between(0.001, 0.9))
    """Share of the training items on which the best head is chosen and none is trained."""
    as_released: bool = False
    """Choose the head on `val` and draw the clips of long videos, as in the published code."""
    dtype: Literal["float16", "float32"] = "float16"
    """Number format of the stored tokens."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the heads and of the order of the items."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of encoder and heads."""
    precision: Precision = "auto"
    """Number format of the encoder's weights (auto: bfloat16 on CUDA devices that have it, else
    float32)."""
    out: str = "runs/probe"
    """Folder of tokens, probe, curves and summary; a second run resumes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.train or not self.val:
            raise ConfigError("train= or val= is empty: give a list or a folder for both")


@dataclass(frozen=True, kw_only=True)
class EvalOptions(Checked):
    """Options of `worldmodel probe eval`."""

    probe: str = ""
    """Probe: a run's folder, a file, or a published name (vjepa2-vitl-ssv2)."""
    val: str = ""
    """Items: a list (`path label` lines, or CSV) or a folder with one folder a class."""
    root: str = ""
    """Folder of the relative paths in the list (default: the list's own folder)."""
    encoder: str = ""
    """Frozen encoder (default: the one that the probe was trained on)."""
    clips: ClipOptions = field(default_factory=ClipOptions)
    """How videos become tokens."""
    as_released: bool = False
    """Draw the clips of long videos, as in the published code."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of drawn clips."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of encoder and probe."""
    precision: Precision = "auto"
    """Number format of the weights of encoder and probe (auto: bfloat16 on CUDA devices that have
    it, else float32)."""
    out: str = "runs/probe-eval"
    """Folder of tokens and summary; a second run resumes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probe or not self.val:
            raise ConfigError("probe= or val= is empty: give a probe and a list or folder")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Checked):
    """Options of `worldmodel probe predict`."""

    probe: str = ""
    """Probe: a run's folder, a file, or a published name (vjepa2-vitl-ssv2)."""
    videos: str = ""
    """Video or image file, or a folder of them."""
    encoder: str = ""
    """Frozen encoder (default: the one that the probe was trained on)."""
    clips: ClipOptions = field(default_factory=ClipOptions)
    """How videos become tokens."""
    labels: str = ""
    """JSON file of class names, a list or an object from number to name (default: the probe's)."""
    top: int = field(default=5, metadata=between(1, 1000))
    """Number of classes to print for each file."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of encoder and probe."""
    precision: Precision = "auto"
    """Number format of the weights of encoder and probe (auto: bfloat16 on CUDA devices that have
    it, else float32)."""
    out: str = ""
    """Folder of predictions.json (default: none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probe or not self.videos:
            raise ConfigError("probe= or videos= is empty: give a probe and a file or folder")
