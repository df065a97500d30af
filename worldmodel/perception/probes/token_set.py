"""Tokens of labelled items in one file, or in a file of each process of the run.

Shapes: V views, B items, N tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.errors import DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.perception.probes.labelled_videos import LabelledItems
from worldmodel.perception.probes.recipes import Recipe
from worldmodel.perception.probes.token_file import TokenFile, encode_items
from worldmodel.perception.sharing import Processes, merged


@dataclass(frozen=True)
class TokenSet:
    """Stored tokens of the usable items, in the order of the list, from any number of processes."""

    files: tuple[TokenFile, ...]
    file_of: Tensor
    """File of each item."""
    row_of: Tensor
    """Row of each item in its file."""
    rejected: dict[str, str]
    """Item -> the reason why it has no tokens."""

    @property
    def labels(self) -> Tensor:
        """Class of each item, int64 [items]."""
        labels = torch.empty(len(self.file_of), dtype=torch.int64)
        for number, file in enumerate(self.files):
            own = self.file_of == number
            labels[own] = file.labels[self.row_of[own]]
        return labels

    @property
    def width(self) -> int:
        """Width of a token."""
        return max(file.shape[2] for file in self.files)

    def read(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens [V, B, N, D] float32 and labels [B] of items, in rising order."""
        rising = numbers.sort().values
        parts = []
        for number, file in enumerate(self.files):
            at = (self.file_of[rising] == number).nonzero()[:, 0]
            if len(at):
                tokens, labels = file.read(self.row_of[rising[at]])
                parts.append((at, tokens, labels))
        order = torch.cat([at for at, _, _ in parts]).argsort()
        return (
            torch.cat([tokens for _, tokens, _ in parts], dim=1)[:, order],
            torch.cat([labels for _, _, labels in parts])[order],
        )


def encode_set(
    path: Path,
    encoder: FrameEncoder,
    items: LabelledItems,
    recipe: Recipe,
    processes: Processes,
    *,
    name: str,
    num_views: int,
    dtype: str = "float16",
    draw_seed: int | None = None,
) -> TokenSet:
    """Encode the items that no file has yet; each process takes its share of them.

    Args:
        path: The HDF5 file; with several processes, `NAME-1-of-2.h5` and so on beside it.
        encoder: Frozen encoder.
        items: Items and labels.
        recipe: Clips and levels.
        processes: Processes of the run; every one must call this.
        name: Name of the encoder, recorded in the files.
        num_views: Number of crops of each clip.
        dtype: Data type of the stored tokens.
        draw_seed: Seed of drawn clips; None takes each segment's start.

    Raises:
        DataError: No item could be read, or a file is torn.
        ConfigError: A file holds tokens of other items or of another kind.
    """
    rank, count = processes.rank, processes.count
    if count > 1:
        path = path.with_name(f"{path.stem}-{rank + 1}-of-{count}{path.suffix}")
    own = encode_items(
        path,
        encoder,
        LabelledItems(items.items[rank::count], items.rejected, items.classes),
        recipe,
        name=name,
        num_views=num_views,
        dtype=dtype,
        draw_seed=draw_seed,
        first=rank,
        step=count,
    )
    files = tuple(processes.from_all(own))
    rejected = merged(processes, own.rejected)
    numbers = torch.cat([file.numbers for file in files])
    if not len(numbers):
        first = next(iter(rejected.values()), "the list is empty")
        raise DataError(f"none of {len(items.items)} items could be read; the first: {first}")
    if len({file.shape for file in files if len(file.labels)}) > 1:
        raise DataError(
            f"{path} and its neighbours hold tokens of several shapes: use another out="
        )
    order = numbers.argsort()
    file_of = torch.cat([torch.full_like(file.numbers, i) for i, file in enumerate(files)])
    row_of = torch.cat([torch.arange(len(file.labels)) for file in files])
    return TokenSet(files, file_of[order], row_of[order], rejected)
