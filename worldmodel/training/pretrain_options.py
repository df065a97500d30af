"""Options of `worldmodel pretrain` alone; free of torch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.training.clip_options import ClipLength
from worldmodel.training.network_options import MAX_DEPTH, MAX_WIDTH, check_patches
from worldmodel.training.run_options import MAX_STEPS, LoopConfig

CutTo = Literal["shortest", "median"]


@dataclass(frozen=True, kw_only=True)
class ShapesConfig(ClipLength):
    """Made clips of moving shapes."""

    num_frames: int = field(default=6, metadata=between(2, 64, "frames"))
    """Number of frames per clip."""
    num_clips: int = field(default=200_000, metadata=between(64, 2**31 - 1, "clips"))
    """Number of different training clips, which are made when a step needs them."""
    data_seed: int = field(default=1000, metadata=between(1, 2**31 - 1))
    """Seed of the training clips; the held-out clips have seed 0, so other textures and paths."""
    store: str = ""
    """Folder in which the training clips are made once and kept, for this run and others of the
    same set: 29 kB a clip of 40 px and 6 frames (empty: every step makes its clips)."""


@dataclass(frozen=True, kw_only=True)
class DenseConfig(Checked):
    """V-JEPA 2.1's dense losses of pretraining, targets of several blocks, and SIGReg."""

    levels: int = field(default=1, metadata=between(1, MAX_DEPTH))
    """Number of encoder blocks, evenly spread to the last one, whose tokens the predictor sees and
    predicts (1: the encoder's output alone; published: 4)."""
    target_blocks: int = field(default=1, metadata=between(1, MAX_DEPTH))
    """Number of the encoder's last blocks whose normalised tokens are averaged to the targets (1:
    its output alone, as published); excludes levels."""
    context_loss: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of the error at visible tokens, which the predictor predicts as well (0: hidden tokens
    alone; published: 0.5)."""
    context_distance: bool = True
    """Divide the error of a visible token by the square root of its distance to the nearest token
    to predict, in tokens; needs context_loss."""
    context_from: int = field(default=0, metadata=between(0, MAX_STEPS, "steps"))
    """Step at which the weight context_loss begins to rise from 0 (published: 15,000)."""
    context_until: int = field(default=0, metadata=between(0, MAX_STEPS, "steps"))
    """Step from which context_loss has its full weight (published: 30,000)."""
    sigreg: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of SIGReg (LeJEPA), which brings the encoder's visible tokens near a standard normal
    distribution and so keeps their rank (0: not used, as published)."""

    def __post_init__(self) -> None:
        """Reject options that have no effect or exclude each other.

        Raises:
            ConfigError: An option is out of range or has no effect.
        """
        super().__post_init__()
        ramp = {"context_from": self.context_from, "context_until": self.context_until}
        changed = {name: value for name, value in ramp.items() if value}
        changed |= {} if self.context_distance else {"context_distance": False}
        if changed and not self.context_loss:
            raise ConfigError(
                f"{changed} has no effect with context_loss=0: leave it out, or set context_loss "
                "above 0"
            )
        if self.levels > 1 and self.target_blocks > 1:
            raise ConfigError(
                f"target_blocks={self.target_blocks} averages what levels={self.levels} predicts "
                "one by one: leave one of them out"
            )
        if self.context_until < self.context_from:
            raise ConfigError(
                f"context_until={self.context_until} is before context_from={self.context_from}: "
                "give a later step, or the same one"
            )


@dataclass(frozen=True, kw_only=True)
class PretrainLoopConfig(LoopConfig):
    """Length, batch size and logging intervals of a pretraining run, which may have 0 steps."""

    steps: int = field(default=3000, metadata=between(0, MAX_STEPS, "steps"))
    """Number of optimiser steps of the whole run (0: export the initial encoder)."""
    batch_size: int = field(default=32, metadata=between(1, 1_000_000, "clips"))
    """Number of clips per optimiser step, over all processes."""
    val_clips: int = field(default=128, metadata=between(1, 1_000_000, "clips"))
    """Number of held-out clips per validation."""


@dataclass(frozen=True, kw_only=True)
class MaskConfig(Checked):
    """Multi-block masks of pretraining."""

    short_blocks: int = field(default=8, metadata=between(1, 1024))
    """Short-range mask: number of blocks per clip."""
    short_scale: float = field(default=0.15, metadata=between(0.001, 1))
    """Short-range mask: fraction of a frame per block."""
    long_blocks: int = field(default=2, metadata=between(1, 1024))
    """Long-range mask: number of blocks per clip."""
    long_scale: float = field(default=0.7, metadata=between(0.001, 1))
    """Long-range mask: fraction of a frame per block."""
    alternate: bool = False
    """Train on one kind of mask per step, in turn, instead of on both, at half the cost."""
    cut_to: CutTo = "shortest"
    """Length to which the visible tokens of a batch's clips are cut: that of the shortest clip, as
    published, which drops half of them on small grids, or the median (shorter clips get new
    blocks)."""
    max_targets: int = field(default=0, metadata=between(0, 2**20, "tokens"))
    """Maximum number of hidden tokens per clip to predict, drawn at random (0: all)."""


@dataclass(frozen=True, kw_only=True)
class MomentumConfig(Checked):
    """Moving average of the encoder, which provides the targets and is exported."""

    momentum: float = field(default=0.99925, metadata=between(0, 1))
    """Momentum at the first step."""
    momentum_end: float = field(default=0.99925, metadata=between(0, 1))
    """Momentum at the last step; it changes linearly."""


@dataclass(frozen=True, kw_only=True)
class PretrainEncoderConfig(Checked):
    """Encoder to pretrain: an existing one, a published size, or custom sizes."""

    init: str = ""
    """Encoder to continue from (name or file) instead of random weights; it then sets all sizes."""
    predictor_init: str = ""
    """Published name or file whose masked predictor to continue from instead of random weights; it
    then sets the predictor's sizes. The trained mask tokens are the family's: V-JEPA 2 uses token 0
    for both kinds of mask."""
    size: str = ""
    """Published size (vit_tiny, vit_small, ...) instead of encoder_dim, encoder_depth and
    encoder_heads."""
    image_size: int = field(default=128, metadata=between(8, 4096, "px"))
    """Height and width of the frames."""
    stem: Literal["conv", "patch"] = "conv"
    """Stem: stride-2 convolutions (conv) or one strided convolution (patch)."""
    stem_channels: tuple[int, ...] = field(
        default=(16, 48, 96, 128), metadata=between(1, MAX_WIDTH)
    )
    """Output channels of the stride-2 convolutions, with stem=conv."""
    patch_size: int = field(default=32, metadata=between(1, 4096, "px"))
    """Patch size per token."""
    tubelet_size: int = field(default=1, metadata=between(1, 64, "frames"))
    """Number of frames per token; 1 with stem=conv."""
    encoder_dim: int = field(default=128, metadata=between(1, MAX_WIDTH))
    """Width of a token."""
    encoder_depth: int = field(default=2, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks of the encoder."""
    encoder_heads: int = field(default=4, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the encoder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.init:
            check_patches(self.image_size, self.patch_size)
