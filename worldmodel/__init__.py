"""V-JEPA 2 world models: encoders, action-conditioned predictors, training and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel import former_names
from worldmodel.specs import Precision

if TYPE_CHECKING:
    import torch

    from worldmodel.checkpoints.io import Model
    from worldmodel.models.frame_encoder import FrameEncoder
    from worldmodel.models.probe import AttentiveClassifier
    from worldmodel.models.world_model import WorldModel

__all__ = [
    "from_pretrained",
    "load",
    "load_encoder",
    "load_probe",
    "load_world_model",
    "push_to_hub",
    "save_pretrained",
]

former_names.register()

# torch is imported on the first call, not by `import worldmodel`, to keep --help fast


def load_world_model(
    name_or_path: str | Path = "default",
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    *,
    encoder: FrameEncoder | None = None,
) -> WorldModel:
    """Load a world model by name, file or folder; see `worldmodel.checkpoints.loading`."""
    from worldmodel.checkpoints import loading

    return loading.load_world_model(name_or_path, device, precision, encoder=encoder)


def load(name_or_path: str | Path = "default", device: str | torch.device = "auto") -> WorldModel:
    """Load a world model; short for `load_world_model`."""
    return load_world_model(name_or_path, device)


def from_pretrained(
    name_or_path: str | Path, device: str | torch.device = "auto", precision: Precision = "auto"
) -> Model:
    """Load a model of any kind, such as `USER/NAME` or `USER/NAME@REVISION` of the hub.

    See `worldmodel.checkpoints.loading.load_any`.
    """
    from worldmodel.checkpoints import loading

    return loading.load_any(name_or_path, device, precision)


def save_pretrained(
    model: Model, folder: str | Path, *, notes: Mapping[str, str] | None = None, licence: str = ""
) -> Path:
    """Write a model as a folder with config.json, safetensors and a model card.

    See `worldmodel.checkpoints.pretrained.save_pretrained`.
    """
    from worldmodel.checkpoints import pretrained

    return pretrained.save_pretrained(model, folder, notes=notes, licence=licence)


def push_to_hub(
    model: Model,
    repository: str,
    folder: str | Path,
    *,
    private: bool = False,
    notes: Mapping[str, str] | None = None,
    licence: str = "",
) -> str:
    """Write a model to a folder and upload it to the Hugging Face hub; return the commit's URL.

    See `worldmodel.checkpoints.pretrained.push_to_hub`.
    """
    from worldmodel.checkpoints import pretrained

    return pretrained.push_to_hub(
        model, repository, folder, private=private, notes=notes, licence=licence
    )


def load_encoder(
    name_or_path: str | Path, device: str | torch.device = "auto", precision: Precision = "auto"
) -> FrameEncoder:
    """Load a frame encoder by name, file or folder; see `worldmodel.checkpoints.loading`."""
    from worldmodel.checkpoints import loading

    return loading.load_encoder(name_or_path, device, precision)


def load_probe(
    name_or_path: str | Path, device: str | torch.device = "auto", precision: Precision = "auto"
) -> AttentiveClassifier:
    """Load an attentive probe by name, file or folder; see `worldmodel.checkpoints.loading`."""
    from worldmodel.checkpoints import loading

    return loading.load_probe(name_or_path, device, precision)
