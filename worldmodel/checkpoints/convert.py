"""Rewrite a published checkpoint as our safetensors: weights, configuration and specs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from worldmodel.checkpoints.assemble import ConvertConfig, PublishedFile, assemble, find_source
from worldmodel.checkpoints.io import save
from worldmodel.errors import ConfigError
from worldmodel.models.world_model import WorldModel

__all__ = ["ConvertConfig", "Converted", "convert"]


@dataclass(frozen=True)
class Converted:
    """Result of a conversion."""

    path: Path
    """Written file."""
    kind: str
    """What it holds."""
    kept: list[str]
    """Kept top-level entries of the source."""
    dropped: list[str]
    """Dropped top-level entries and their sizes [bytes]."""


def convert(source: str, out: Path, config: ConvertConfig) -> Converted:
    """Rewrite a published file or name as one safetensors file.

    Raises:
        CheckpointError: the source is damaged, refused or inconsistent.
        ConfigError: an option contradicts the file.
        DownloadError: a published file cannot be downloaded.
    """
    path, published = find_source(source)
    if out.suffix != ".safetensors":
        raise ConfigError(f"out={str(out)!r} must end in .safetensors")
    if not path.exists():
        raise ConfigError(
            f"source={source!r} is neither a file nor a published name; `worldmodel models` "
            "lists the names"
        )
    file = PublishedFile(path, config, published)
    model, kept = assemble(file)
    notes = {"source": source, "licence": published.licence if published else "as the source's"}
    save(out, model, notes=notes, dtype=getattr(torch, config.dtype))
    entries = file.entries
    dropped = [f"{key} ({size / 1e6:.1f} MB)" for key, size in entries.items() if key not in kept]
    kind = "world model" if isinstance(model, WorldModel) else type(model).__name__
    return Converted(out, kind, [key for key in entries if key in kept], dropped)
