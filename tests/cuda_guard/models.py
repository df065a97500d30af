"""Small models and random clips for the cases of the guard."""

from __future__ import annotations

import numpy as np
import torch

from worldmodel.models.config import (
    EncoderConfig,
    MaskedPredictorConfig,
    ObjectHeadConfig,
    PredictorConfig,
)
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ObservationSpec

SIDE = 32
"""Side of the images [px]."""
WIDTH, HEADS = 96, 2
"""Width and heads of encoder and predictor."""
TOKENS = 4
"""Patch tokens of a frame."""


def encoder_config(depth: int = 2) -> EncoderConfig:
    return EncoderConfig(
        image_size=(SIDE, SIDE),
        num_frames=4,
        patch_size=16,
        tubelet_size=2,
        embed_dim=WIDTH,
        depth=depth,
        num_heads=HEADS,
    )


def small_encoder(depth: int = 2) -> VideoEncoder:
    """Return a frozen encoder of clips."""
    torch.manual_seed(0)
    return VideoEncoder.of(VisionTransformer(encoder_config(depth)), transform="squeeze")


def small_world(depth: int = 2, *, head: bool = True) -> WorldModel:
    """Return a world model with random weights, and an object head."""
    torch.manual_seed(0)
    predictor = PredictorConfig(
        grid=(2, 2), encoder_dim=WIDTH, embed_dim=WIDTH, depth=depth, num_heads=HEADS, num_frames=8
    )
    config = ModelConfig(
        encoder=encoder_config(),
        predictor=predictor,
        observation=ObservationSpec(image_size=(SIDE, SIDE), transform="squeeze"),
        object_head=ObjectHeadConfig(num_tokens=TOKENS, token_dim=WIDTH) if head else None,
    )
    return WorldModel.from_config(config).eval().requires_grad_(False)


def small_networks() -> tuple[VisionTransformer, VisionTransformer, MaskedPredictor]:
    """Return encoder, target encoder and masked predictor."""
    torch.manual_seed(0)
    sizes = {"encoder_dim": WIDTH, "out_dim": WIDTH, "embed_dim": WIDTH}
    predictor = MaskedPredictorConfig(grid=(2, 2, 2), depth=2, num_heads=HEADS, **sizes)
    encoders = (VisionTransformer(encoder_config()).eval() for _ in range(2))
    return (*encoders, MaskedPredictor(predictor).eval())


class Clips:
    """Random clips of frames, states and actions."""

    labelled = True
    sent = True

    def __init__(self, num_clips: int = 8, num_frames: int = 4) -> None:
        rng = np.random.default_rng(0)
        shape = (num_clips, num_frames)
        self.arrays = {
            "frames": rng.integers(0, 256, (*shape, SIDE, SIDE, 3), dtype=np.uint8),
            "states": rng.normal(size=(*shape, 7)).astype(np.float32),
            "actions": rng.normal(size=(num_clips, num_frames - 1, 7)).astype(np.float32),
            "objects": rng.normal(size=(*shape, 3)).astype(np.float32),
            "labels": rng.normal(size=(*shape, 2, 4)).astype(np.float32),
        }

    def __len__(self) -> int:
        return len(self.arrays["frames"])

    def content_hash(self) -> str:
        return "random"

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[indices] for name, values in self.arrays.items()}
