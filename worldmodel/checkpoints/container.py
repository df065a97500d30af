"""Our files: safetensors with a JSON description inside, written whole or not at all."""

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


def read_metadata(path: Path) -> dict[str, Any]:
    """The description inside a file.

    Raises:
        CheckpointError: the file is torn, no safetensors, or not one of ours.
    """
    try:
        with safe_open(str(path), "pt") as file:
            metadata = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file ({error}); fetch it again. "
            "A published file of another layout: `worldmodel convert source=FILE out=FILE` first"
        ) from error
    if metadata is None:
        raise CheckpointError(f"{path} has no description of ours; `worldmodel convert` adds one")
    described: dict[str, Any] = json.loads(metadata)
    return described


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        CheckpointError: the file is torn.
    """
    try:
        tensors: dict[str, Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); fetch it again") from error
    return tensors
