"""Read sizes, head counts and family of a published part from its tensors."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from torch import Tensor

from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config import Position, RopeLayout

log = logging.getLogger(__name__)
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class LoadOverrides:
    """Settings from the caller or config.json; None defers to the tensors or the family."""

    num_heads: int | None
    """Number of attention heads."""
    image_size: tuple[int, int]
    """Height and width of the images [px]."""
    num_frames: int
    """Frames of a clip."""
    rope: RopeLayout | None
    """Rotary layout."""
    norm_eps: float | None
    """Layer norm epsilon."""
    full_ac: bool
    """Whether state and extrinsics encoders are always present, as in V-JEPA 2-AC's own files."""
    is_image: bool = False
    """Whether the file is of I-JEPA, whose position tables are of an image."""


class PartReader:
    """The tensors of one part, from which sizes are read.

    Args:
        tensors: Tensors under their published names.
        asked: Settings that the tensors do not tell.
        where: Name of the file for messages.
    """

    def __init__(self, tensors: Tensors, asked: LoadOverrides, where: str) -> None:
        self.tensors, self.asked, self.where = tensors, asked, where

    def shape(self, key: str, rank: int) -> tuple[int, ...]:
        """Return the shape of a tensor that must have `rank` axes."""
        if key not in self.tensors:
            raise CheckpointError(
                f"{self.where}: missing key {key!r}, needed to read the model's sizes. "
                "It is damaged or of another layout"
            )
        shape = tuple(self.tensors[key].shape)
        if len(shape) != rank or 0 in shape:
            raise CheckpointError(
                f"{self.where}: {key!r} has shape {shape}; {rank} axes are needed"
            )
        return shape

    def count(self, names: str) -> int:
        """Return how many numbered modules (or tensors) of a name there are.

        Raises:
            CheckpointError: Their numbers are not 0, 1, 2, ...: some are missing.
        """
        pattern = re.compile(rf"{re.escape(names)}\.([0-9]{{1,9}})(?:\.|$)")
        numbers = {int(m[1]) for k in self.tensors if (m := pattern.match(k))}
        if numbers and max(numbers) != len(numbers) - 1:
            missing = next(i for i in range(len(numbers)) if i not in numbers)
            raise CheckpointError(
                f"{self.where}: {names}.{max(numbers)} is there and {names}.{missing} is not: the "
                "file is incomplete, or of another layout; download all of its parts again"
            )
        return len(numbers)

    def ratio(self, block: str, dim: int) -> float:
        """Return the hidden width of a block's MLP over its width."""
        hidden = self.shape(f"{block}.mlp.fc1.weight", 2)[0]
        return hidden / dim if int(dim * (hidden / dim)) == hidden else (hidden + 0.5) / dim

    def heads(self, published: int | None, dim: int, key: str, *, rotary: bool) -> int:
        """Return the number of attention heads: as requested, else as published."""
        where, heads = self.where, self.asked.num_heads or published
        if heads is None:
            raise ConfigError(
                f"{where}: no published model has this width ({dim}) and depth, so its head count "
                "is unknown: pass num_heads= (a command without this option takes the output of "
                "`worldmodel convert source=FILE num_heads=N`), or download the file again if "
                "blocks are missing"
            )
        if heads < 1 or dim % heads:
            raise ConfigError(
                f"{where}: num_heads={heads} does not divide the width {dim} of {key!r}: "
                f"choose a divisor{f'; the published count is {published}' if published else ''}"
            )
        if rotary and (dim // heads) % 2:
            raise ConfigError(
                f"{where}: num_heads={heads} leaves {dim // heads} channels a head of {key!r}; "
                "rotary embedding rotates pairs: choose another count"
            )
        if published and heads != published:
            log.warning("%s: num_heads=%d, but the published model has %d", where, heads, published)
        return heads

    def rope(self, *, has_table: bool, is_21: bool, name: str = "V-JEPA 2") -> RopeLayout:
        """Return the rotary layout of the family; models with a position table have none."""
        family: RopeLayout = "interleaved" if is_21 else "tiled"
        if has_table:
            self.refuse_rope("V-JEPA 1 (it has a position table)")
            return "tiled"
        if self.asked.rope not in (None, family):
            raise ConfigError(
                f"{self.where}: rope={self.asked.rope!r} contradicts the file, a "
                f"{'V-JEPA 2.1' if is_21 else name} model, whose angles are {family}: leave rope "
                "out"
            )
        return family

    def position(self, table: Tensor | None) -> Position:
        """Return the kind of position embedding."""
        if table is None:
            return "rope"
        return "sincos_2d" if self.asked.is_image else "sincos"

    def refuse_rope(self, name: str) -> None:
        """Refuse a rotary layout for a model that has none."""
        if self.asked.rope is not None:
            raise ConfigError(
                f"{self.where}: rope={self.asked.rope!r}, but {name} has no rotary embedding: "
                "leave it out"
            )

    def patch_grid(self, patch: int) -> tuple[int, int]:
        """Return the patch rows and columns of the images."""
        height, width = self.asked.image_size
        if height < patch or width < patch or height % patch or width % patch:
            raise ConfigError(
                f"{self.where}: image_size {self.asked.image_size} is not a multiple of {patch} px"
            )
        return height // patch, width // patch
