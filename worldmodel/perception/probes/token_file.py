"""Encode labelled items once; keep their tokens in an HDF5 file that a second run continues.

Shapes: V views, B items, N tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.cache import code_digest
from worldmodel.data.episode import rejecting
from worldmodel.errors import DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.model_hash import model_hash
from worldmodel.perception.clip_sampling import ClipSampling
from worldmodel.perception.hdf5_file import open_resumable, read_results, reserved, source_stamp
from worldmodel.perception.hdf5_rejects import Rejects
from worldmodel.perception.probes.frozen_tokens import four_levels, view_tokens
from worldmodel.perception.probes.labelled_videos import LabelledItem, LabelledItems, read_clips
from worldmodel.perception.probes.recipes import Recipe

log = logging.getLogger(__name__)
READ = 64
"""Number of items that are read at once for evaluation."""
ANOTHER = "delete it, or use another out="


def encode_file(
    encoder: FrameEncoder,
    path: Path,
    recipe: Recipe,
    *,
    num_views: int,
    generator: RandomState | None = None,
) -> Tensor:
    """Return the tokens [V, N, D] of one video or image; a generator draws the clips' places.

    Raises:
        DataError: The file is missing, damaged or too short.
    """
    sampling = ClipSampling(
        num_frames=recipe.num_frames,
        frame_step=recipe.frame_step,
        num_segments=recipe.num_segments,
        random=generator is not None,
    )
    crop = encoder.image_size[0]
    with rejecting(str(path)):
        clips = read_clips(path, sampling, crop=crop, num_views=num_views, generator=generator)
    levels = four_levels(encoder) if recipe.levels == "four" else ()
    return view_tokens(encoder, clips[:, :, None], levels)[:, 0]


@dataclass(frozen=True)
class TokenFile:
    """Stored tokens of the usable items."""

    path: Path
    labels: Tensor
    """Class of each item, int64 [items]."""
    shape: tuple[int, int, int]
    """Views, tokens and width of an item."""
    rejected: dict[str, str]
    """Item -> the reason why it has no tokens."""
    numbers: Tensor
    """Place of each item in the whole list, int64 [items]."""

    def read(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens [V, B, N, D] float32 and labels [B] of items, in rising order.

        Raises:
            DataError: The file cannot be opened, or a token is not finite.
        """
        rising = numbers.sort().values
        with read_results(self.path) as file:
            tokens = torch.from_numpy(file["tokens"][rising.numpy()]).float()
        if not torch.isfinite(tokens).all():
            raise DataError(f"{self.path} holds tokens that are not finite: {ANOTHER}")
        return tokens.transpose(0, 1), self.labels[rising]


def encode_items(
    path: Path,
    encoder: FrameEncoder,
    items: LabelledItems,
    recipe: Recipe,
    *,
    name: str,
    num_views: int,
    dtype: str = "float16",
    draw_seed: int | None = None,
    first: int = 0,
    step: int = 1,
) -> TokenFile:
    """Encode the items that the file lacks; the file may end up with none.

    Args:
        path: The HDF5 file.
        encoder: Frozen encoder.
        items: Items and labels.
        recipe: Clips and levels.
        name: Name of the encoder, recorded in the file; on resuming its hash is compared.
        num_views: Number of crops of each clip.
        dtype: Data type of the stored tokens.
        draw_seed: Seed of drawn clips; None takes each segment's start.
        first: Place of the first item in the whole list.
        step: Distance of the items in the whole list.

    Raises:
        DataError: The file is torn.
        ConfigError: The file holds tokens of other items or of another kind.
    """
    paths = [(str(item.path), item.label) for item in items.items]
    clips = (recipe.num_frames, recipe.frame_step, recipe.num_segments, recipe.levels, num_views)
    sources = [source_stamp(item.path) for item in items.items]
    made_by = {
        "encoder_hash": model_hash(encoder),
        "code": code_digest(),
        "recipe": json.dumps([clips, dtype, draw_seed]),
        "items": _digest(json.dumps([paths, sources])),
    }
    with open_resumable(path, made_by) as file:
        with reserved(file):
            file.attrs["encoder"] = name
        done, rows, rejects = _progress(file, path, items.items)
        for number, item in enumerate(tqdm(items.items[done:], desc=path.stem), start=done):
            draw = None if draw_seed is None else RandomState((draw_seed, first + step * number))
            try:
                tokens = encode_file(
                    encoder, item.path, recipe, num_views=num_views, generator=draw
                )
                with reserved(file, tokens.nbytes):
                    _write(file, rows, tokens, item.label, dtype)
                rows += 1
            except DataError as error:
                log.warning("%s", error)
                rejects.add(number, str(item.path), str(error))
            with reserved(file):
                file.attrs["progress"] = (number + 1, rows)  # one write: both or neither
        shape = tuple(int(size) for size in file["tokens"].shape[1:]) if rows else (0, 0, 0)
        labels = torch.from_numpy(file["labels"][:rows]) if rows else torch.empty(0).long()
    rejected = dict(items.rejected) | rejects.reasons
    places = [i for i, item in enumerate(items.items) if str(item.path) not in rejects.reasons]
    numbers = first + step * torch.tensor(places, dtype=torch.int64)
    return TokenFile(path, labels, (shape[0], shape[1], shape[2]), rejected, numbers)


def _progress(
    file: h5py.File, path: Path, items: Sequence[LabelledItem]
) -> tuple[int, int, Rejects]:
    """Return the number of items that are done, that of stored rows, and the rejects.

    Raises:
        DataError: The file does not hold what `encode_items` writes.
    """
    try:
        done, rows = (int(count) for count in file.attrs.get("progress", (0, 0)))
        rejects = Rejects(file, done)
        labels = [item.label for item in items[:done] if str(item.path) not in rejects.reasons]
        fits = True
        if rows:
            tokens, stored = file["tokens"], file["labels"]
            fits &= tokens.ndim == 4 and 0 not in tokens.shape and tokens.dtype.kind == "f"
            fits &= rows <= len(tokens) and stored[:rows].tolist() == labels
            fits &= tokens.maxshape[0] is None and stored.maxshape == (None,)
    except Exception as error:  # attributes and arrays of any kind, in a file of any origin
        raise DataError(f"{path} holds no tokens of these items ({error}): {ANOTHER}") from error
    if not fits or len(labels) != rows or not 0 <= done <= len(items):
        raise DataError(f"{path} holds {rows} rows of {done} items, which do not fit: {ANOTHER}")
    return done, rows, rejects


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(file: h5py.File, row: int, tokens_VND: Tensor, label: int, dtype: str) -> None:
    """Write one item; a row that an interrupted run did not count is overwritten."""
    shape = tuple(tokens_VND.shape)
    stored = tokens_VND.cpu().numpy().astype(dtype)
    if not np.isfinite(stored).all():
        raise DataError(f"its tokens are not finite as {dtype}: use dtype=float32, or another clip")
    if "tokens" not in file:
        most = (None, *shape)
        file.create_dataset("tokens", (0, *shape), dtype, maxshape=most, chunks=(1, *shape))
        file.create_dataset("labels", (0,), np.int64, maxshape=(None,))
    tokens, labels = file["tokens"], file["labels"]
    if tokens.shape[1:] != shape:
        raise DataError(f"its tokens have shape {shape}, those of the others {tokens.shape[1:]}")
    tokens.resize(row + 1, axis=0)
    labels.resize((row + 1,))
    tokens[row], labels[row] = stored, label


def count_hits(
    probabilities_BC: Tensor, labels_B: Tensor, ranks: Sequence[int] = (1, 5)
) -> dict[int, int]:
    """Return, for each rank k, the number of items whose class is among the k most likely.

    An item with probabilities that are not finite, as of a head that diverged, is no hit.
    """
    order = probabilities_BC.argsort(dim=-1, descending=True)
    right_BC = (order == labels_B[:, None]) & probabilities_BC.isfinite().all(-1, keepdim=True)
    return {k: int(right_BC[:, :k].any(-1).sum()) for k in ranks}
