"""Load the frozen encoder and predictor that anticipation probes read."""

from __future__ import annotations

import torch
from torch import nn

from worldmodel.checkpoints.assemble import find_source
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.errors import CheckpointError
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.models.precision import use_precision
from worldmodel.perception.probes.config import TrainPrecision


def load_backbones(
    name: str, heads: tuple[int | None, int | None], image_size: int | None
) -> tuple[VisionTransformer, MaskedPredictor, int]:
    """Load the target encoder and the masked predictor of a file, on the CPU in float32.

    Args:
        name: Published name, or file.
        heads: Attention heads of encoder and predictor; None takes the published ones.
        image_size: Height and width of the images [px]; None takes the published ones, or 256.

    Returns:
        Encoder, predictor and image size [px].

    Raises:
        CheckpointError: The file holds no video encoder with a masked predictor.
    """
    path, known = find_source(name)
    size = image_size or (known.image_size if known else 256)
    encoder = load_published(path, "target_encoder", num_heads=heads[0], image_size=size)
    predictor = load_published(path, "predictor", num_heads=heads[1], image_size=size)
    if not isinstance(encoder, VisionTransformer) or not isinstance(predictor, MaskedPredictor):
        raise CheckpointError(f"{path} has no video encoder with a masked predictor")
    return encoder, predictor, size


def place_networks(
    networks: tuple[nn.Module, ...], precision: TrainPrecision, device: torch.device
) -> None:
    """Move networks to a device, with weights in a data type."""
    if precision == "float16":
        for network in networks:
            network.half()
    else:
        use_precision(networks, precision, device)
    for network in networks:
        network.to(device)
