"""V-JEPA 2 world models: encoder, action-conditioned predictor, training and data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from worldmodel.models.world_model import WorldModel

__all__ = ["load"]


def load(name_or_path: str | Path = "default", device: str | torch.device = "auto") -> WorldModel:
    """Load a model by embedded name, published name or file; see `checkpoints.io.load`."""
    from worldmodel.checkpoints.io import load as load_checkpoint  # torch only when it is wanted

    return load_checkpoint(name_or_path, device)
