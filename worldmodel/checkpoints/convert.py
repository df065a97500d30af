"""Rewrite a checkpoint as our safetensors, or an I-JEPA encoder as a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from worldmodel.checkpoints.assemble import ConvertConfig, PublishedFile, assemble, find_source
from worldmodel.checkpoints.container import read_description
from worldmodel.checkpoints.io import Model, save
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.checkpoints.published.ijepa import write_huggingface
from worldmodel.checkpoints.tensor_file import is_safetensors
from worldmodel.errors import ConfigError
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.world_model import WorldModel

__all__ = ["ConvertConfig", "Converted", "Layout", "convert"]
Layout = Literal["own", "huggingface"]
"""Our safetensors file, or the folder that `transformers.IJepaModel` reads."""


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


def convert(source: str, out: Path, config: ConvertConfig, layout: Layout = "own") -> Converted:
    """Rewrite a published file or name in one of our layouts.

    Args:
        source: File, folder or published name; for `huggingface` also an own run or file.
        out: safetensors file, or for `huggingface` a folder.
        config: How to read the source.
        layout: What to write.

    Raises:
        CheckpointError: The source is damaged, refused or inconsistent.
        ConfigError: An option contradicts the file, or the layout cannot hold the model.
        DownloadError: A published file cannot be downloaded.
    """
    path, published = find_source(source)
    if (out.suffix == ".safetensors") != (layout == "own"):
        needed = "must end in .safetensors" if layout == "own" else "is a folder with this layout"
        raise ConfigError(f"out={str(out)!r} {needed}")
    if not path.exists():
        raise ConfigError(
            f"source={source!r} is neither a file nor a published name; `worldmodel models` "
            "lists the names"
        )
    if layout == "huggingface" and _is_own(path):
        if config != ConvertConfig(dtype=config.dtype):
            raise ConfigError(
                f"{source} is our file, which knows its sizes: give only source, out, layout and "
                "dtype"
            )
        model: Model = load_encoder(path, "cpu", "float32")
        entries, kept = {"encoder": 0}, ["encoder"]
    else:
        file = PublishedFile(path, config, published)
        model, kept = assemble(file)
        entries = file.entries
    dtype = getattr(torch, config.dtype)
    if layout == "own":
        licence = published.licence if published else "as the source's"
        save(out, model, notes={"source": source, "licence": licence}, dtype=dtype)
    elif isinstance(model, VideoEncoder):
        write_huggingface(model.backbone, out, dtype)
    else:
        raise ConfigError(f"{source} is a {type(model).__name__}; this layout is for encoders")
    dropped = [f"{key} ({size / 1e6:.1f} MB)" for key, size in entries.items() if key not in kept]
    kind = "world model" if isinstance(model, WorldModel) else type(model).__name__
    return Converted(out, kind, [key for key in entries if key in kept], dropped)


def _is_own(path: Path) -> bool:
    """Return whether a path is a run's folder or one of our files, not a published one."""
    if path.is_dir():
        return not (path / "config.json").is_file()
    return is_safetensors(path) and read_description(path) is not None
