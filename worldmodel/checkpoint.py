"""Load and save models; a short public name for parts of `worldmodel.checkpoints`."""

from __future__ import annotations

from pathlib import Path

from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import (
    Device,
    load_any,
    load_encoder,
    load_probe,
    load_world_model,
)
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.models.world_model import WorldModel

__all__ = [
    "load",
    "load_any",
    "load_encoder",
    "load_probe",
    "load_published",
    "load_world_model",
    "save",
]


def load(name_or_path: str | Path = "default", device: Device = "auto") -> WorldModel:
    """Load a world model; see `load_world_model`."""
    return load_world_model(name_or_path, device)
