"""Models with frame encoders of users' classes.

`module:Class` names an encoder, and `MODEL+module:Class` a model that was trained on it: the file
holds the encoder's weights, and only a command line or a user's configuration names its code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from planning.errors import PlanError
from planning.options import Device, Precision
from planning.plugins import is_own, is_reference, load, registered
from worldmodel.checkpoints import loading
from worldmodel.checkpoints.io import Model, is_users
from worldmodel.checkpoints.loading import load_any, load_world_model, place
from worldmodel.models.config import OwnEncoderConfig
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder
from worldmodel.models.transformers_encoder import TransformersEncoder
from worldmodel.models.world_model import WorldModel

Loaded = TypeVar("Loaded", WorldModel, Model)
OURS = ("hf:", "random:")
"""Prefixes of our own names of encoders, which are not modules of users."""


def is_users_encoder(name: str) -> bool:
    """Return whether a name is `module:Class`, or that of another package's encoder."""
    if name.startswith(OURS):
        return False
    return is_reference(name) or (name in registered("encoder") and not is_own("encoder", name))


def split_code(model: str) -> tuple[str, str]:
    """Return a model's name and the code of its encoder, which is empty if none is named."""
    if is_users_encoder(model):
        return "", model
    path, plus, code = model.rpartition("+")
    return (path, code) if plus and path and is_users_encoder(code) else (model, "")


def own_encoder(name: str) -> FrameEncoder:
    """Create a frame encoder of a user's class, on the CPU and in evaluation mode.

    Raises:
        PlanError: It cannot be loaded or created, or is not a frame encoder.
    """
    make = load("encoder", name)
    try:
        encoder = make() if callable(make) else make
    except Exception as error:  # a user's class can raise anything
        raise PlanError(
            f"The encoder {name} cannot be created ({type(error).__name__}: {error}). It must take "
            "no arguments."
        ) from error
    if not isinstance(encoder, FrameEncoder):
        raise PlanError(
            f"{name} gives {type(encoder).__name__}, which is no "
            "worldmodel.models.frame_encoder.FrameEncoder. Derive it from that class."
        )
    sizes = encoder.config.encoder
    if isinstance(sizes, OwnEncoderConfig):
        encoder.config = replace(encoder.config, encoder=replace(sizes, code=name))
    elif type(encoder) not in (VideoEncoder, TransformersEncoder):
        raise PlanError(
            f"{name} is a class of yours whose config describes {type(sizes).__name__}, from which "
            "a file would be loaded as one of ours. Describe its sizes by OwnEncoderConfig "
            "(docs/your-environment.md)."
        )
    return encoder.eval()


def open_any(name: str, device: Device = "auto", precision: Precision = "auto") -> Model:
    """Load a model of any kind, whose encoder may be of a user's class."""
    path, code = split_code(name)
    if not path:
        return place(own_encoder(code), device, precision)
    return _open(load_any, name, device, precision)


def open_world(name: str, device: Device = "auto", precision: Precision = "auto") -> WorldModel:
    """Load a world model, whose encoder may be of a user's class.

    Raises:
        PlanError: The name is that of an encoder alone.
    """
    if not split_code(name)[0]:
        raise PlanError(
            f"model={name} is an encoder, without a predictor of actions. Give MODEL+{name}, the "
            "model that was trained on it."
        )
    return _open(load_world_model, name, device, precision)


def open_encoder(
    name: str, device: Device = "auto", precision: Precision = "auto", *, image_size: int = 256
) -> FrameEncoder:
    """Load a frame encoder, which may be of a user's class.

    Args:
        name: Name, file or folder, `module:Class`, or MODEL+module:Class.
        device: Device of the encoder.
        precision: Data type of its weights.
        image_size: Side of a random encoder's images [px].
    """
    path, code = split_code(name)
    if not code:
        return loading.load_encoder(name, device, precision, image_size=image_size)
    if not path:
        return place(own_encoder(code), device, precision)
    return loading.load_encoder(path, device, precision, encoder=_for_file(code))


def given_model(name: str) -> Model | None:
    """Return the model that a training starts from, if its encoder is of a user's class."""
    return open_any(name, "cpu", "float32") if split_code(name)[1] else None


def _open(read: Callable[..., Loaded], name: str, device: Device, precision: Precision) -> Loaded:
    path, code = split_code(name)
    return (
        read(path, device, precision, encoder=_for_file(code))
        if code
        else read(name, device, precision)
    )


def _for_file(code: str) -> FrameEncoder | None:
    """Return the encoder into which a file's weights are read; None if ours rebuilds it."""
    encoder = own_encoder(code)
    return encoder if is_users(encoder.config) else None
