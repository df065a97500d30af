"""Read depth or classes of pixels by a trained dense head: `worldmodel probe dense-predict`.

Shapes: B images, N tokens, H W pixels, K outputs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.data.files import links_outside, list_files
from worldmodel.data.pictures import read_picture
from worldmodel.errors import ConfigError, DataError
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.dense.config import DensePredictOptions, Task
from worldmodel.perception.dense.head import as_map, resized_to
from worldmodel.perception.dense.head_file import KnownHead, load_head
from worldmodel.perception.dense.labelled_images import FOLDERS
from worldmodel.perception.dense.picture import write_picture
from worldmodel.perception.dense.run import DenseEncoder
from worldmodel.perception.images import IMAGES, is_image

log = logging.getLogger(__name__)
UNITS = 65_535
"""Maximum depth that a 16-bit PNG holds, in its units; 0 says that it is unknown."""


@dataclass
class DensePredictor:
    """A head and its encoder."""

    known: KnownHead
    encoder: DenseEncoder

    @torch.no_grad()
    def __call__(self, frame_HWC: Tensor) -> Tensor:
        """Return the depth [m] of each pixel of a uint8 image, or its class number: [H, W]."""
        found_BKRC = self.known.head(self.encoder(frame_HWC))
        return as_map(resized_to(found_BKRC, frame_HWC.shape[:2])[0], self.known.task).cpu()


def open_dense(options: DensePredictOptions) -> DensePredictor:
    """Load a head and the encoder that it reads.

    Raises:
        CheckpointError: The head is damaged or no head.
        ConfigError: The encoder is not known, or gives tokens of another width.
    """
    known = load_head(options.head)
    name = options.encoder or known.encoder
    if not name:
        raise ConfigError(f"head={options.head} does not tell its encoder: give encoder=NAME")
    network = load_encoder(name, options.device, options.precision)
    width, own = known.head.linear.in_features, network.config.encoder.embed_dim
    if width != own:
        raise ConfigError(
            f"head={options.head} reads tokens of width {width}, and encoder={name} gives {own}: "
            f"give the encoder that it was trained on ({known.encoder or 'not noted'})"
        )
    if known.encoder_hash and known.encoder_hash != model_hash(network):
        log.warning(
            "encoder=%s has other weights or another precision than the one that the head was "
            "trained on (%s); with other weights its predictions mean nothing",
            name,
            known.encoder,
        )
    patch = network.config.encoder.patch_size
    rows, columns = known.head.grid
    known.head.to(network.device)
    return DensePredictor(known, DenseEncoder(network, (rows * patch, columns * patch)))


def _find_images(options: DensePredictOptions, rejected: dict[str, str]) -> dict[str, Path]:
    """Return the images by the name of their maps; note those that cannot be taken.

    Raises:
        DataError: There is none.
    """
    root = Path(options.images)
    paths = [root] if root.is_file() else [path for path in list_files(root) if is_image(path)]
    if not paths:
        raise DataError(f"{root} holds no image ({', '.join(sorted(IMAGES))}): give images=PATH")
    outside = links_outside(paths, root, options.links)
    rejected |= {str(path): why for path, why in outside.items()}
    found: dict[str, Path] = {}
    for path in (path for path in paths if path not in outside):
        inside = path.relative_to(root) if root.is_dir() else Path(path.name)
        name = str(inside.with_suffix(".png"))
        if name in found:
            rejected[str(path)] = f"its map would replace that of {found[name]}: rename one of them"
        else:
            found[name] = path
    return found


def _write_map(path: Path, map_HW: Tensor, task: Task, depth_scale: float) -> dict[str, Any]:
    """Write a map as `probe dense` reads it; return what it tells in short.

    Depths that the file cannot hold, as those below 0 of a linear head, become the nearest it can.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if task == "segmentation":
        Image.fromarray(map_HW.to(torch.uint8).numpy()).save(path)
        numbers, counts = map_HW.unique(return_counts=True)
        shares = (counts.double() / map_HW.numel()).tolist()
        return {"classes": dict(zip(map(str, numbers.tolist()), shares, strict=True))}
    units = (map_HW / depth_scale).round().clamp(1, UNITS)
    Image.fromarray(units.numpy().astype(np.uint16)).save(path)
    written = units * depth_scale
    found = {"nearest_m": written.min(), "median_m": written.median(), "farthest_m": written.max()}
    return {name: float(depth) for name, depth in found.items()}


def predict_dense(options: DensePredictOptions) -> tuple[dict[str, Any], dict[str, str]]:
    """Write a map of each image, and pictures of them.

    Returns:
        What each map tells in short, by the image's path, and the reasons of images that cannot be
        read.

    Raises:
        CheckpointError: The head is damaged or no head.
        ConfigError: The encoder is not known, or does not fit.
        DataError: There is no image.
    """
    rejected: dict[str, str] = {}
    images = _find_images(options, rejected)
    predictor = open_dense(options)
    task, out = predictor.known.task, Path(options.out)
    found: dict[str, Any] = {}
    for name, path in images.items():
        try:
            frame = torch.from_numpy(read_picture(path))
        except DataError as error:
            rejected[str(path)] = str(error)
            continue
        map_HW = predictor(frame)
        found[str(path)] = _write_map(out / FOLDERS[task] / name, map_HW, task, options.depth_scale)
        write_picture(out / "pictures" / name, frame, [map_HW])
    write_json(out / "predictions.json", {"task": task, "predictions": found, "rejected": rejected})
    return found, rejected
