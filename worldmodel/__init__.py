"""V-JEPA 2 world models: encoders, action-conditioned predictors, training and data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel import former_names
from worldmodel.specs import Precision

if TYPE_CHECKING:
    import torch

    from worldmodel.models.frame_encoder import FrameEncoder
    from worldmodel.models.probe import AttentiveClassifier
    from worldmodel.models.world_model import WorldModel

__all__ = ["load", "load_encoder", "load_probe", "load_world_model"]

former_names.register()

# torch is imported on the first call, not by `import worldmodel`, to keep --help fast


def load_world_model(
    name_or_path: str | Path = "default",
    device: str | torch.device = "auto",
    precision: Precision = "auto",
) -> WorldModel:
    """Load a world model by name, file or folder; see `worldmodel.checkpoints.loading`."""
    from worldmodel.checkpoints import loading

    return loading.load_world_model(name_or_path, device, precision)


def load(name_or_path: str | Path = "default", device: str | torch.device = "auto") -> WorldModel:
    """Load a world model; short for `load_world_model`."""
    return load_world_model(name_or_path, device)


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
