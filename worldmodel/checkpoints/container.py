"""Low-level files: our safetensors with a JSON description, and JSON files beside weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from worldmodel.atomic_io import atomic_file
from worldmodel.checkpoints.tensor_file import opened
from worldmodel.errors import CheckpointError

KEY = "worldmodel"
SHOWN = 8
"""Maximum number of tensors that a message lists per kind."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically, tensor by tensor, without a second copy.

    Raises:
        CheckpointError: The write failed, for example on a full disk.
    """
    try:
        with atomic_file(path) as part:
            save_file(tensors, part, metadata)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}): free space there and start the command again"
        ) from error


def save_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and their description to one file, see `write_tensors`."""
    write_tensors(path, tensors, {KEY: json.dumps(metadata)})


def read_description(path: Path) -> dict[str, Any] | None:
    """Read the description inside a safetensors file; None if it has none.

    Raises:
        CheckpointError: The file is damaged or not safetensors, or its description is invalid.
    """
    with opened(path) as file:
        text = (file.metadata() or {}).get(KEY)
    return None if text is None else _json_object(text, f"{path}: its description")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file beside published weights; empty if it is missing.

    Raises:
        CheckpointError: The file is not a JSON object.
    """
    return _json_object(path.read_bytes(), str(path)) if path.is_file() else {}


def _json_object(text: str | bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not JSON ({error}): download it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{where} is not a JSON object: download it again")
    return found


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file.

    Raises:
        CheckpointError: The file is damaged.
    """
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def fill(networks: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], where: str) -> None:
    """Assign float32 weights to networks, without copying those that are float32 already.

    Args:
        networks: Networks by their key prefix in `tensors`.
        tensors: All weights of all networks.
        where: Name of the file, for error messages.

    Raises:
        CheckpointError: Tensors are missing, unexpected or misshapen; the message names them.
    """
    wanted = {f"{p}{k}": v for p, part in networks.items() for k, v in part.state_dict().items()}
    problems = {
        "missing keys": sorted(wanted.keys() - tensors.keys()),
        "unexpected keys": sorted(tensors.keys() - wanted.keys()),
        "wrong shapes": [
            f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in sorted(wanted.keys() & tensors.keys())
            if wanted[key].shape != tensors[key].shape
        ],
    }
    if any(problems.values()):
        texts = [f"{what} {_shown(names)}" for what, names in problems.items() if names]
        raise CheckpointError(
            f"{where} does not fit: {'; '.join(texts)}. It is damaged or of another layout: fetch "
            "it again"
        )
    for prefix, part in networks.items():
        own = {
            k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)
        }
        part.load_state_dict(own, assign=True)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{names[:SHOWN]}{more}"
