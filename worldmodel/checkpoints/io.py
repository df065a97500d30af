"""Our checkpoint format: safetensors files that include configuration and specs.

Keys are `encoder.*` (the backbone's), `predictor.*`, `object_head.*` and `macro.*` if the world
model has them, and, in a probe's file, the probe's own.
Nothing is ever unpickled.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.checkpoints.container import fill, load_tensors, read_description, save_safetensors
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import EncoderConfig, OwnEncoderConfig, ProbeConfig
from worldmodel.models.config_dict import from_dict, to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder
from worldmodel.models.macro import MacroDynamics
from worldmodel.models.model_config import DynamicsConfig, FrameEncoderConfig, ModelConfig
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.transformers_encoder import TransformersEncoder
from worldmodel.models.world_model import WorldModel

Model = WorldModel | FrameEncoder | LatentDynamics | AttentiveClassifier


def networks(model: Model) -> dict[str, nn.Module]:
    """Return the networks of a model by their key prefix in a file."""
    if isinstance(model, WorldModel):
        parts = {"encoder.": model.encoder.backbone, "predictor.": model.predictor}
        more = {"object_head.": model.object_head, "macro.": model.macro}
        more["home_head."] = model.home_head
        return parts | {name: part for name, part in more.items() if part is not None}
    if isinstance(model, FrameEncoder):
        return {"encoder.": model.backbone}
    if isinstance(model, LatentDynamics):
        return {"predictor.": model.predictor}
    return {"": model}


def kind_of(model: Model) -> str:
    """Return the name of a model's kind in a file's description."""
    kinds = {WorldModel: "world_model", FrameEncoder: "video_model"}
    kinds |= {LatentDynamics: "latent_dynamics", AttentiveClassifier: "probe"}
    return next(name for kind, name in kinds.items() if isinstance(model, kind))


def save(
    path: Path | str,
    model: Model,
    *,
    notes: dict[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights, configuration and specs to one safetensors file, atomically.

    Args:
        path: Output file.
        model: A world model, a frame encoder, a latent dynamics or a probe.
        notes: Notes about the training, stored in the file's description.
        dtype: Data type of the file; loading always gives float32.
    """
    tensors: dict[str, Tensor] = {
        f"{prefix}{name}": value.detach().cpu().to(dtype).contiguous()
        for prefix, network in networks(model).items()
        for name, value in network.state_dict().items()
    }
    save_safetensors(Path(path), tensors, description_of(model, notes))


def description_of(model: Model, notes: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the description of a model in its file: kind, configuration and notes."""
    config = json.loads(json.dumps(to_dict(model.config)))  # lists, as a file gives them back
    return {"kind": kind_of(model), "config": config, "notes": dict(notes or {})}


def load_own(path: Path, encoder: FrameEncoder | None = None) -> Model:
    """Read a file written by `save` into a float32 model on the CPU.

    Args:
        path: The file.
        encoder: Encoder of a user's class, into which the file's weights are read; required for
            a file of such an encoder, which holds no code.

    Raises:
        CheckpointError: The file is damaged, of an unknown kind, or its keys and shapes do not
            match.
    """
    description = read_description(path)
    if description is None:
        raise CheckpointError(
            f"{path} holds no description of a model: another program wrote it; "
            "`worldmodel convert source=FILE out=FILE` adds one to a published file"
        )
    tensors = load_tensors(path)
    most = sum(value.numel() for value in tensors.values())
    try:
        model = empty_model(description.get("kind"), description.get("config", {}), most, encoder)
    except ConfigError as error:
        raise CheckpointError(f"{path}: its description is not valid: {error}") from error
    fill(networks(model), tensors, str(path))
    return model


def copy_on_cpu(model: WorldModel) -> WorldModel:
    """Return a float32 copy of a model on the CPU, for another process."""
    tensors = {
        f"{prefix}{name}": value.detach().cpu()
        for prefix, network in networks(model).items()
        for name, value in network.state_dict().items()
    }
    encoder = model.encoder
    own = copy.deepcopy(encoder).cpu() if is_users(encoder.config) else None
    copied = empty_model(kind_of(model), to_dict(model.config), encoder=own)
    assert isinstance(copied, WorldModel)
    fill(networks(copied), tensors, "the copy of a model")
    return copied.eval().requires_grad_(False)


def empty_model(
    kind: object, config: Any, most: int | None = None, encoder: FrameEncoder | None = None
) -> Model:
    """Build the model of a file's description, on the meta device where possible.

    Args:
        kind: Entry of the description.
        config: Entry of the description.
        most: Number of weights in the file; a part that takes memory may not have more.
        encoder: Encoder of a user's class; see `load_own`.

    Raises:
        CheckpointError: The encoder is of a user's class, and it is not given, or another one is.
        ConfigError: The kind is unknown, or the configuration is invalid.
    """
    if kind == "world_model":
        model = from_dict(ModelConfig, config)
        with torch.device("meta"):
            head = None if model.object_head is None else ObjectHead(model.object_head)
            macro = None if model.macro is None else MacroDynamics(model.macro)
            home = None if model.home_head is None else ObjectHead(model.home_head)
        reading = _empty_encoder(model.frame_encoder, most, encoder)
        return WorldModel(reading, _empty_dynamics(model.dynamics), head, macro, home)
    if kind == "video_model":
        return _empty_encoder(from_dict(FrameEncoderConfig, config), most, encoder)
    if kind == "latent_dynamics":
        return _empty_dynamics(from_dict(DynamicsConfig, config))
    if kind == "probe":
        with torch.device("meta"):
            return AttentiveClassifier(from_dict(ProbeConfig, config))
    raise ConfigError(f"kind={kind!r} is unknown; another version of this package wrote the file")


def is_users(config: FrameEncoderConfig) -> bool:
    """Return whether an encoder is of a user's class."""
    return isinstance(config.encoder, OwnEncoderConfig)


def _users_encoder(config: FrameEncoderConfig, encoder: FrameEncoder | None) -> FrameEncoder:
    """Return the given encoder with a file's conventions.

    Raises:
        CheckpointError: No encoder is given, or one with other sizes.
    """
    described = config.encoder
    assert isinstance(described, OwnEncoderConfig)
    code = described.code or "module:Class"
    if encoder is None:
        raise CheckpointError(
            f"The encoder of this model is a user's class, and a file never chooses code. Name it: "
            f"model=FOLDER+{code}, or load_world_model(..., encoder=...) in Python"
        )
    found = encoder.config.encoder
    if not isinstance(found, OwnEncoderConfig) or replace(found, code="") != replace(
        described, code=""
    ):
        raise CheckpointError(
            f"The encoder is {found}, this model was trained with {described}: name that one"
        )
    encoder.config = replace(config, encoder=found)
    return encoder.set_observation(config.observation)


def _empty_encoder(
    config: FrameEncoderConfig, most: int | None, encoder: FrameEncoder | None
) -> FrameEncoder:
    if is_users(config):
        return _users_encoder(config, encoder)
    if encoder is not None:
        raise CheckpointError(
            "The encoder of this model is not of a user's class: name the model alone, without +"
        )
    if not isinstance(config.encoder, EncoderConfig):
        # not on the meta device: it holds a position table outside the state dict
        return TransformersEncoder(config, most=most)
    with torch.device("meta"):
        backbone = VisionTransformer(config.encoder)
    return VideoEncoder(config, backbone)


def _empty_dynamics(config: DynamicsConfig) -> LatentDynamics:
    with torch.device("meta"):
        predictor = ActionConditionedPredictor(config.predictor)
    return LatentDynamics(config, predictor)
