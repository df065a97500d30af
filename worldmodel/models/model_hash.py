"""Hash of a model: what results that were computed with it depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection

import torch
from torch import nn

OF_THE_FILE = ("transformers_version", "dtype")
"""Entries of a transformers configuration that tell how it was saved, not what it computes."""


def weights_hash(model: nn.Module) -> str:
    """Return a SHA-256 hash (16 hexadecimal digits) of the names and bytes of all weights."""
    return _digest(model).hexdigest()[:16]


def model_hash(model: nn.Module, *, without: Collection[str] = ()) -> str:
    """Return a SHA-256 hash (16 hexadecimal digits) of all weights and of the configuration.

    The configuration holds what weights do not tell, such as the number of attention heads.

    Args:
        model: Network with a `config` dataclass.
        without: Entries of the configuration that the results do not depend on.
    """
    digest = _digest(model)
    config = getattr(model, "config", None)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        left_out = {*without, *OF_THE_FILE}
        entries = {k: v for k, v in dataclasses.asdict(config).items() if k not in left_out}
        digest.update(json.dumps(entries, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _digest(model: nn.Module) -> hashlib._Hash:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest
