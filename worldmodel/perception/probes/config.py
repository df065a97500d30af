"""Options of the probe commands; this module imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.perception.probes.recipes import COUNT, RECIPES, SSV2, Levels, Preset, Recipe

TrainPrecision = Literal["auto", "float32", "bfloat16", "float16"]


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

    def recipe(self, default: Recipe = SSV2) -> Recipe:
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
    links: Literal["inside", "all"] = "inside"
    """Linked folders are always followed. Linked files of a folder must stay inside it, or may lead
    anywhere (`all`, for your own links)."""
    encoder: str = "vjepa2-vitl"
    """Frozen encoder: a published or embedded name, or a file."""
    clips: ClipOptions = field(default_factory=ClipOptions)
    """How videos become tokens."""
    num_classes: int | None = field(default=None, metadata=between(1, 1_000_000))
    """Number of classes; items of a list with other labels are rejected (default: up to the largest
    label of `train`)."""
    augment: bool = False
    """Whether to train on randomly drawn and changed views of the items, as published; tokens are
    then computed in each epoch instead of once."""
    num_heads: int = field(default=16, metadata=between(1, 1024))
    """Number of attention heads of a probe; divides the encoder's width."""
    depth: int | None = field(default=None, metadata=between(1, 64))
    """Number of attention blocks of a probe (default: the preset's, 4 or, for V-JEPA 1, 1)."""
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
    """Data type of the stored tokens."""
    tokens: str = ""
    """Folder of the stored tokens; runs on the same items may share it, one after another (default:
    `out`)."""
    save_every: int = field(default=200, metadata=between(1, 10**9, "updates"))
    """Number of updates between saved states; the end of each epoch is saved as well."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the heads, of the order of the items and of their random views."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of encoder and heads."""
    precision: TrainPrecision = "auto"
    """Data type of the encoder's weights and of the heads' products (auto: bfloat16 on CUDA
    devices that have it, else float32)."""
    out: str = field(default="runs/probe", metadata={"takes_lock": True})
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
    head: int = field(default=0, metadata=between(0, 4095))
    """Number of the head in a published file of several, from 0."""
    val: str = ""
    """Items: a list (`path label` lines, or CSV) or a folder with one folder a class."""
    root: str = ""
    """Folder of the relative paths in the list (default: the list's own folder)."""
    links: Literal["inside", "all"] = "inside"
    """Linked folders are always followed. Linked files of a folder must stay inside it, or may lead
    anywhere (`all`, for your own links)."""
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
    precision: TrainPrecision = "auto"
    """Data type of the weights of encoder and probe (auto: bfloat16 on CUDA devices that have
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
    head: int = field(default=0, metadata=between(0, 4095))
    """Number of the head in a published file of several, from 0."""
    videos: str = ""
    """Video or image file, or a folder of them."""
    links: Literal["inside", "all"] = "inside"
    """Linked folders are always followed. Linked files of a folder must stay inside it, or may lead
    anywhere (`all`, for your own links)."""
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
    precision: TrainPrecision = "auto"
    """Data type of the weights of encoder and probe (auto: bfloat16 on CUDA devices that have
    it, else float32)."""
    out: str = ""
    """Folder of predictions.json (default: none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.probe or not self.videos:
            raise ConfigError("probe= or videos= is empty: give a probe and a file or folder")
