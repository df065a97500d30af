"""Options of `worldmodel pretrain mode=images` alone.

The defaults are the published ones of I-JEPA's ViT-H/14, apart from sizes and lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.training.network_options import MAX_DEPTH, MAX_WIDTH
from worldmodel.training.pretrain_options import MomentumConfig, PretrainLoopConfig
from worldmodel.training.run_options import MAX_STEPS, RunConfig

Range = tuple[float, float]
SHARE = between(1e-6, 1)


@dataclass(frozen=True, kw_only=True)
class ImageRunConfig(RunConfig):
    """Input and output folders, seed and device of a run on images."""

    data: str = "runs/images/train"
    """Folder of the training images, at any depth."""
    val: str = "runs/images/val"
    """Folder of the held-out images, at any depth."""
    out: str = "runs/pretrain"
    """Folder for checkpoints, metrics, the report and the exported encoder."""


@dataclass(frozen=True, kw_only=True)
class ImageConfig(Checked):
    """Reading and cropping of the images."""

    crop_scale: tuple[float, float] = field(default=(0.3, 1.0), metadata=between(0.001, 1))
    """Range of the share of an image's area in a random crop; there is no flip and no change of
    colour."""
    links: Literal["inside", "all"] = "inside"
    """Whether linked files must stay inside the folder, or may lead anywhere (all, for your own
    links)."""
    max_reject_fraction: float = field(default=0.5, metadata=between(0, 1))
    """Maximum share of images that may be unreadable; they are named in rejects.json."""
    workers: int = field(default=2, metadata=between(1, 1024))
    """Number of decoding threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.crop_scale
        if low > high:
            raise ConfigError(f"crop_scale={self.crop_scale}; allowed: low <= high")


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig(Checked):
    """Encoder to pretrain: an existing one, a published size, or custom sizes."""

    init: str = ""
    """I-JEPA encoder to continue from (name or file) instead of random weights; it then sets all
    sizes."""
    predictor_init: str = ""
    """Published name or file whose predictor to continue from instead of random weights; it then
    sets the predictor's sizes."""
    size: str = ""
    """Published size (vit_tiny, vit_small, ...) instead of encoder_dim, encoder_depth and
    encoder_heads."""
    image_size: int = field(default=224, metadata=between(8, 4096, "px"))
    """Height and width of the crops."""
    patch_size: int = field(default=14, metadata=between(1, 4096, "px"))
    """Patch size per token."""
    encoder_dim: int = field(default=192, metadata=between(1, MAX_WIDTH))
    """Width of a token; a multiple of 4."""
    encoder_depth: int = field(default=12, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks of the encoder."""
    encoder_heads: int = field(default=3, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the encoder, and of the predictor as published."""


@dataclass(frozen=True, kw_only=True)
class ImagePredictorSizes(Checked):
    """Size of the predictor; it has as many attention heads as the encoder."""

    predictor_dim: int = field(default=384, metadata=between(1, MAX_WIDTH))
    """Width of the predictor's tokens; a multiple of 4 and of the number of heads."""
    predictor_depth: int = field(default=12, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks of the predictor."""


@dataclass(frozen=True, kw_only=True)
class ImageMask(Checked):
    """Blocks of I-JEPA's masks; the defaults are the published ones."""

    num_targets: int = field(default=4, metadata=between(1, 1024))
    """Number of blocks to predict."""
    target_scale: Range = field(default=(0.15, 0.2), metadata=SHARE)
    """Range of the share of the image's tokens in a target block."""
    target_aspect: Range = field(default=(0.75, 1.5), metadata=between(1e-6, 1e6))
    """Range of a target block's height over width."""
    context_scale: Range = field(default=(0.85, 1.0), metadata=SHARE)
    """Range of the share of the image's tokens in the context block, before the targets in it are
    removed; its aspect ratio is 1."""
    min_keep: int = field(default=10, metadata=between(0, 2**20))
    """A block and the context each have more tokens than this."""
    as_released: bool = False
    """Repeat two mistakes of the released code: a block never reaches the last row or column, and
    the batch's longer contexts lose their bottom rows, not a random choice of tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("target_scale", "target_aspect", "context_scale"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"{name}={(low, high)} of a mask; allowed: low <= high")


@dataclass(frozen=True, kw_only=True)
class CosineConfig(Checked):
    """Schedules: linear warm-up and cosine of the learning rate, cosine of the weight decay."""

    lr_start: float = field(default=2e-4, metadata=between(0, 10))
    """Learning rate before the first step."""
    lr_end: float = field(default=1e-6, metadata=between(0, 10))
    """Learning rate at the last step."""
    warmup: int = field(default=500, metadata=between(0, MAX_STEPS, "steps"))
    """Number of warm-up steps from lr_start to lr (published: 40 of 300 epochs)."""
    weight_decay_end: float = field(default=0.4, metadata=between(0, 10))
    """Weight decay at the last step; at the first it is weight_decay."""


@dataclass(frozen=True, kw_only=True)
class ImageMomentumConfig(MomentumConfig):
    """Moving average of the encoder, which provides the targets and is exported."""

    momentum: float = field(default=0.996, metadata=between(0, 1))
    """Momentum at the first step."""
    momentum_end: float = field(default=1.0, metadata=between(0, 1))
    """Momentum at the last step; it changes linearly."""


@dataclass(frozen=True, kw_only=True)
class ImageLoopConfig(PretrainLoopConfig):
    """Length, batch size and logging intervals of a run on images."""

    batch_size: int = field(default=64, metadata=between(1, 1_000_000, "images"))
    """Number of images per optimiser step, over all processes (published: 2048)."""
    val_clips: int = field(default=128, metadata=between(1, 1_000_000, "images"))
    """Number of held-out images per validation."""
