"""Our file format: safetensors with a JSON description inside, written completely or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodel.atomic_io import atomic_file
from worldmodel.errors import CheckpointError

KEY = "worldmodel"


def save_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and their description to one file, completely or not at all."""
    with atomic_file(path) as part:
        save_file(tensors, part, {KEY: json.dumps(metadata)})  # tensor by tensor, no second copy


def read_description(path: Path) -> dict[str, Any] | None:
    """Read the description inside a safetensors file; None if another program wrote the file.

    Raises:
        CheckpointError: the file is torn, is not safetensors, or its description is not valid.
    """
    try:
        with safe_open(str(path), "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file ({error}); fetch it again"
        ) from error
    if text is None:
        return None
    try:
        described = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: its description is not JSON ({error})") from error
    if not isinstance(described, dict):
        raise CheckpointError(f"{path}: its description is not a JSON object: fetch it again")
    return described


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file.

    Raises:
        CheckpointError: the file is torn.
    """
    try:
        tensors: dict[str, Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); fetch it again") from error
    return tensors
