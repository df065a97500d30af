"""Pictures of decoded roll-outs at the end of a training, where the encoder has a picture decoder.

Shapes: B clips, T frames, N tokens, D width, K steps, H W pixels.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from worldmodel.atomic_io import write_bytes
from worldmodel.checkpoints.loading import load_world_model
from worldmodel.checkpoints.picture_decoder import decoder_path, load_decoder
from worldmodel.models.picture_decoder import PictureDecoder, encoder_key
from worldmodel.models.world_model import WorldModel
from worldmodel.training.batches import Batch
from worldmodel.training.rollouts import free_rollout

log = logging.getLogger(__name__)

FILE = "rollouts.png"
CLIPS, COLUMNS = 3, 8
"""Number of clips, and largest number of imagined steps of each that are shown."""


def find_decoder(model: Path, names: Iterable[str]) -> tuple[WorldModel, PictureDecoder] | None:
    """Return a trained model and the decoder that fits its encoder; None if there is none.

    Args:
        model: File of the trained model.
        names: Models whose decoders are tried, such as the one that the run started from.
    """
    paths = [path for name in names if name and (path := decoder_path(name)).is_file()]
    if not paths or not model.is_file():
        return None
    world = load_world_model(model, "cpu", "float32")
    decoders = (load_decoder(path) for path in paths)
    fitting = next((d for d in decoders if d.fits(encoder_key(world))), None)
    return None if fitting is None else (world, fitting)


@torch.no_grad()
def rollout_pictures(world: WorldModel, decoder: PictureDecoder, batch: Batch) -> NDArray[np.uint8]:
    """Return an RGB picture [H, W, 3] of held-out clips, two rows a clip.

    The upper row decodes the recorded frames' tokens, the lower one those that the model imagines
    from the first frame and the recorded actions. The first column is the first frame.
    """
    data = {name: value[:CLIPS].cpu() for name, value in batch.items()}
    z_BTND = _tokens(world, data)
    imagined_BKND = free_rollout(
        world.dynamics, z_BTND[:, 0], data["states"][:, 0], data["actions"]
    )
    steps = shown_steps(imagined_BKND.shape[1])
    rows = []
    references = _references(data)
    for recorded_TND, imagined_KND, reference in zip(
        z_BTND, imagined_BKND, references, strict=True
    ):
        for z_TND in (recorded_TND, torch.cat([recorded_TND[:1], imagined_KND])):
            pictures = decoder.decode(z_TND[[0, *steps]], reference).numpy()
            rows.append(np.concatenate(list(pictures), axis=1))
    return np.concatenate(rows, axis=0)


def _references(data: Batch) -> list[Tensor | None]:
    """Return the first frame [1, H, W, 3] of the main view of each clip; None if there is none."""
    if "frames" not in data:
        return [None] * len(data["features"])
    first = data["frames"][:, :1]  # with one view [B, 1, H, W, 3], with more [B, 1, V, H, W, 3]
    return list(first if first.ndim == 5 else first[:, :, 0])


def shown_steps(count: int) -> list[int]:
    """Return the steps that are shown: up to `COLUMNS`, evenly, the last one among them."""
    return sorted({round(k) for k in np.linspace(1, count, min(COLUMNS, count))})


def _tokens(world: WorldModel, data: Batch) -> Tensor:
    if "features" in data:
        return data["features"].float()
    frames = data["frames"]
    return world.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # of all views


def write_rollout_pictures(out: Path, model: Path, start: str, batch: Batch) -> None:
    """Write `rollouts.png` if the model's encoder has a decoder; the report then shows it.

    Args:
        out: Folder of the run.
        model: File of the trained model; a decoder beside it is tried first.
        start: Name of the model that the run started from, or empty.
        batch: Held-out clips.
    """
    (out / FILE).unlink(missing_ok=True)
    found = None if "extrinsics" in batch else find_decoder(model, (str(model), start))
    if found is None:
        log.info("no picture decoder fits this encoder; `worldmodel train decoder` trains one")
        return
    png = io.BytesIO()
    Image.fromarray(rollout_pictures(*found, batch)).save(png, "PNG")
    write_bytes(out / FILE, png.getvalue())
