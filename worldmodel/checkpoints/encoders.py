"""The encoder that post-training leaves as it is: held once, without gradients or optimiser state.

Each frame is encoded alone, as in V-JEPA 2-AC. Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.
"""

from __future__ import annotations

import torch
from torch import nn

from worldmodel.checkpoints.io import load_any
from worldmodel.errors import ConfigError
from worldmodel.models.config import Convention, EncoderConfig, ModelConfig, PredictorConfig
from worldmodel.models.encoder import PRESETS, VisionTransformer, preset
from worldmodel.models.world_model import WorldModel


def tiny_encoder(image_size: int = 32) -> EncoderConfig:
    """The smoke recipe's encoder: 4 tokens of 32, seconds on a CPU."""
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


def open_encoder(name: str, seed: int = 0, image_size: int = 256) -> VisionTransformer:
    """An encoder by name or file; `random:vit_base` and `random:tiny` have no training.

    Raises:
        ConfigError: unknown random size, or no name.
        CheckpointError: the file is unknown or damaged.
    """
    if not name:
        raise ConfigError("encoder is empty: say encoder=NAME or a file; see `worldmodel models`")
    if name.startswith("random:"):
        size = name.removeprefix("random:")
        if size != "tiny" and size not in PRESETS:
            raise ConfigError(f"encoder={name!r}; known sizes: tiny, {', '.join(PRESETS)}")
        side = (image_size, image_size)
        config = (
            tiny_encoder(image_size)
            if size == "tiny"
            else preset(size, image_size=side, num_frames=2)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return VisionTransformer(config).eval().requires_grad_(False)
    encoder = load_any(name, "cpu").encoder
    assert isinstance(encoder, VisionTransformer)
    return encoder.eval().requires_grad_(False)


class NoPredictor(nn.Module):
    """Stands where a world model has its predictor, when only frames are encoded."""


def frame_encoder(encoder: VisionTransformer, convention: Convention) -> WorldModel:
    """A model whose `encode` gives the normalised tokens of single frames.

    Raises:
        ConfigError: the encoder's tubelets do not fit the convention.
    """
    if encoder.config.tubelet_size != convention.frames_per_token:
        raise ConfigError(
            f"the encoder's tubelets are {encoder.config.tubelet_size} frames, the convention says "
            f"{convention.frames_per_token}: they must be equal"
        )
    patch = encoder.config.patch_size
    height, width = encoder.config.image_size
    predictor = PredictorConfig(
        grid=(height // patch, width // patch), encoder_dim=encoder.config.embed_dim
    )
    config = ModelConfig(encoder=encoder.config, predictor=predictor, convention=convention)
    empty: nn.Module = NoPredictor()
    return WorldModel(config, encoder, empty).eval()  # type: ignore[arg-type]
