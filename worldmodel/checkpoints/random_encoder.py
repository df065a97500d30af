"""Encoders with random weights for smoke tests: `random:tiny`, `random:vit_base` and so on."""

from __future__ import annotations

import torch

from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import PRESETS, VisionTransformer, preset
from worldmodel.models.frame_encoder import VideoEncoder

PREFIX = "random:"


def is_random(name: str) -> bool:
    """Return whether a name selects random weights."""
    return name.startswith(PREFIX)


def tiny_encoder(image_size: int = 32) -> EncoderConfig:
    """Return the smoke recipe's encoder, with 4 tokens of width 32."""
    return EncoderConfig(
        image_size=(image_size, image_size),
        num_frames=2,
        patch_size=16,
        tubelet_size=2,
        embed_dim=32,
        depth=1,
        num_heads=2,
        rope="interleaved",
    )


def random_encoder(name: str, seed: int = 0, image_size: int = 256) -> VideoEncoder:
    """Build an untrained encoder without changing the global random state.

    Args:
        name: `random:tiny` or `random:` and a published size, such as `random:vit_base`.
        seed: Seed of the weights.
        image_size: Side of the images [px].

    Raises:
        ConfigError: The size is unknown.
    """
    size, side = name.removeprefix(PREFIX), (image_size, image_size)
    if size != "tiny" and size not in PRESETS:
        raise ConfigError(f"encoder={name!r} is unknown; sizes: tiny, {', '.join(PRESETS)}")
    config = (
        tiny_encoder(image_size) if size == "tiny" else preset(size, image_size=side, num_frames=2)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoEncoder.of(VisionTransformer(config)).requires_grad_(False)
