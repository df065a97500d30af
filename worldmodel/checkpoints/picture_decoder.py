"""File of a picture decoder, beside the file of its model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from worldmodel.checkpoints.container import fill, load_tensors, read_description, save_safetensors
from worldmodel.checkpoints.loading import RUN_FILES, embedded_path
from worldmodel.checkpoints.pretrained import cached_folder
from worldmodel.errors import CheckpointError
from worldmodel.models.picture_decoder import PictureDecoder, PictureDecoderConfig

KIND = "picture_decoder"
SUFFIX = "-decoder.safetensors"


def decoder_path(name_or_path: str | Path) -> Path:
    """Return the path of the decoder's file of a model: `NAME-decoder.safetensors` beside it."""
    path = Path(name_or_path)
    path = path if path.exists() else cached_folder(str(name_or_path)) or path
    if path.is_dir():
        path /= next((name for name in RUN_FILES if (path / name).is_file()), RUN_FILES[0])
    elif not path.suffix:
        path = embedded_path(str(name_or_path))
    return path.with_name(path.stem + SUFFIX)


def save_decoder(path: Path, decoder: PictureDecoder) -> None:
    """Write a decoder in float16."""
    tensors = {k: v.half().contiguous() for k, v in decoder.state_dict().items()}
    description = {"kind": KIND, "config": dataclasses.asdict(decoder.config)}
    save_safetensors(path, tensors, description)


def load_decoder(path: Path) -> PictureDecoder:
    """Load a decoder.

    Raises:
        CheckpointError: The file is damaged or of another kind.
    """
    found = read_description(path) or {}
    if found.get("kind") != KIND:
        raise CheckpointError(
            f"{path} is not a picture decoder: `worldmodel train decoder` writes such files"
        )
    decoder = PictureDecoder(PictureDecoderConfig(**found["config"]))
    fill({"": decoder}, load_tensors(path), str(path))
    for name, buffer in decoder.named_buffers():
        decoder.register_buffer(name, buffer.to(torch.float32))
    return decoder.eval().requires_grad_(False)
