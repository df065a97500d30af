"""Load the models that runs start from, on the CPU.

A model whose encoder is of a user's class is given, because no file names code.
"""

from __future__ import annotations

from worldmodel.checkpoints.io import Model
from worldmodel.checkpoints.loading import load_encoder, load_world_model
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.world_model import WorldModel
from worldmodel.training.network_options import EncoderStart


def open_world(name: str, given: Model | None = None) -> WorldModel:
    """Load the world model that a run starts from, on the CPU.

    Raises:
        CheckpointError: The name is unknown, the file is damaged, or it is not a world model.
    """
    if given is None:
        return load_world_model(name, "cpu")
    if not isinstance(given, WorldModel):
        raise CheckpointError(f"{name} is an encoder; needed: a world model")
    return given


def open_encoder(start: EncoderStart, seed: int, given: Model | None = None) -> FrameEncoder:
    """Load the encoder that a run starts from, on the CPU.

    Args:
        start: Its name and image size.
        seed: Seed of random weights.
        given: Model that the name means, if its encoder is of a user's class; None loads it.

    Raises:
        ConfigError: The name is empty, the random size is unknown, or the image size differs.
        CheckpointError: The name is unknown, the file is damaged, or it is not an encoder.
    """
    size = start.image_size
    if given is None:
        encoder = load_encoder(start.encoder, "cpu", seed=seed, image_size=size or 256)
    else:
        found = given.encoder if isinstance(given, WorldModel) else given
        if not isinstance(found, FrameEncoder):
            raise CheckpointError(f"{start.encoder} is not an encoder")
        encoder = found
    if size and encoder.image_size != (size, size):
        raise ConfigError(
            f"image_size={size} (given, or the recipe's) does not fit encoder={start.encoder}, "
            f"which takes {encoder.image_size[0]} x {encoder.image_size[1]} pixels: set image_size="
            f"{encoder.image_size[0]}, or image_size=0 for the encoder's own"
        )
    return encoder
