"""Rebuild a model from a one-file training checkpoint of earlier versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from worldmodel.checkpoints.container import fill, read_json
from worldmodel.checkpoints.io import Model, empty_model, networks
from worldmodel.errors import CheckpointError, ConfigError


def load_training_checkpoint(path: Path, tensors: dict[str, Tensor]) -> Model:
    """Rebuild the model of a one-file training checkpoint of earlier versions.

    The configuration is read from the run's summary.json.

    Raises:
        CheckpointError: The summary is missing or describes another model.
    """
    folders = (path.parent, path.parent.parent)
    summary = next((f / "summary.json" for f in folders if (f / "summary.json").is_file()), None)
    if summary is None:
        raise CheckpointError(
            f"{path} is a training checkpoint, and its run has no summary.json yet, which tells "
            "the model's sizes: resume the run with the same command, then load its folder"
        )
    described: dict[str, Any] = read_json(summary).get("model", {})
    kind = "world_model" if "predictor" in described else "video_model"
    try:
        most = sum(value.numel() for value in tensors.values())
        model = empty_model(kind, described, most)
    except ConfigError as error:
        raise CheckpointError(f"{summary}: its model entry is not valid: {error}") from error
    fill(networks(model), _own_names(tensors), str(path))
    return model


def _own_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a training objective's tensors to file keys, without the training heads."""
    short = {name.removeprefix("world."): value for name, value in tensors.items()}
    return {k: v for k, v in short.items() if k.startswith(("encoder.", "predictor."))}
