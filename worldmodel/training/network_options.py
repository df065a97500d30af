"""Options of the networks that training builds or starts from.

This module does not import torch, so that `--help` is fast. The docstring under a field is its help
text; every number declares its range, and every class validates its values on construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError

MAX_WIDTH, MAX_DEPTH = 2**16, 1024
"""Maximum width of a token and number of blocks."""


def check_patches(image_size: int, patch_size: int) -> None:
    """Check that whole patches fill a frame.

    Raises:
        ConfigError: They do not; the message names both options.
    """
    if image_size % patch_size:
        raise ConfigError(
            f"patch_size={patch_size} does not divide image_size={image_size}: give an image_size "
            f"that is a multiple of it, or another patch_size (at most {image_size})"
        )


@dataclass(frozen=True, kw_only=True)
class SmallEncoderConfig(Checked):
    """A small single-frame encoder with a convolutional stem."""

    image_size: int = field(default=128, metadata=between(8, 4096, "px"))
    """Height and width of the frames."""
    patch_size: int = field(default=128, metadata=between(1, 4096, "px"))
    """Patch size per token."""
    stem_channels: tuple[int, ...] = field(default=(16, 32, 64, 96), metadata=between(1, MAX_WIDTH))
    """Output channels of the stem's stride-2 convolutions."""
    encoder_dim: int = field(default=256, metadata=between(1, MAX_WIDTH))
    """Width of a token."""
    encoder_depth: int = field(default=1, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks after the stem."""
    encoder_heads: int = field(default=4, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the encoder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_patches(self.image_size, self.patch_size)


@dataclass(frozen=True, kw_only=True)
class PredictorSizes(Checked):
    """Size of the predictor."""

    predictor_dim: int = field(default=256, metadata=between(1, MAX_WIDTH))
    """Width of the predictor's tokens."""
    predictor_depth: int = field(default=4, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks of the predictor."""
    predictor_heads: int = field(default=4, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the predictor."""


@dataclass(frozen=True, kw_only=True)
class DynamicsSizes(PredictorSizes):
    """Size and conditioning of the action-conditioned predictor."""

    conditioning: Literal["tokens", "adaln"] = "tokens"
    """Path of action and robot state into the predictor. tokens: tokens of their frame, as
    published; adaln: scales, shifts and gates of every block, without such tokens (JEPA-WMs)."""


@dataclass(frozen=True, kw_only=True)
class EncoderStart(Checked):
    """Pretrained encoder that a run starts from."""

    encoder: str = ""
    """Model name, file, folder, hf:NAME (transformers), random:SIZE for untrained weights, or your
    own as module:Class."""
    image_size: int = field(default=0, metadata=between(0, 4096, "px"))
    """Height and width of the frames (0: the encoder's); any other size is rejected."""


@dataclass(frozen=True, kw_only=True)
class WorldStart(EncoderStart):
    """Pretrained encoder or world model that a run starts from."""

    warm_predictor: bool = False
    """Continue from the predictor, the scales and the object head of encoder=, which then is a
    world model; false builds a new predictor."""


@dataclass(frozen=True, kw_only=True)
class BlockConfig(Checked):
    """Execution of the predictor's blocks."""

    checkpoint_activations: bool = False
    """Recompute the predictor's blocks in the backward pass, to save memory."""
    compile: bool = False
    """Compile the predictor's blocks with torch.compile: on CUDA, their parts beside attention
    where that measures faster; on a CPU and for conditioning=adaln, whole blocks."""
