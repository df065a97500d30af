"""Tokens of randomly drawn and changed views of labelled items, computed in each epoch.

A view depends on the seed, the epoch and the item alone, so that a run that was interrupted, or
that runs in more processes, sees the same views.

Shapes: K segments, T frames, B items, N tokens, D width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from numpy.random import RandomState
from torch import Tensor

from worldmodel.data.episode import rejecting
from worldmodel.errors import DataError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.perception.clip_sampling import ClipSampling
from worldmodel.perception.images import is_image
from worldmodel.perception.probes.frozen_tokens import four_levels, view_tokens
from worldmodel.perception.probes.labelled_videos import LabelledItems, read_frames
from worldmodel.perception.probes.recipes import Recipe
from worldmodel.perception.training_views import training_view

log = logging.getLogger(__name__)


def augmented_clips(path: Path, recipe: Recipe, crop: int, draw: RandomState) -> Tensor:
    """Return a random view of each segment of an item, uint8 [K, T, crop, crop, 3].

    Raises:
        DataError: The file is missing, damaged or too short; the message names it.
    """
    sampling = ClipSampling(
        num_frames=recipe.num_frames,
        frame_step=recipe.frame_step,
        num_segments=recipe.num_segments,
        random=True,
    )
    still = is_image(path)
    with rejecting(str(path)):
        frames, places_KT = read_frames(path, sampling, draw)
        if still:
            view = training_view(frames, crop, draw, flip=recipe.flip, is_image=True)
            return view[places_KT]
        views = [
            training_view(frames[places], crop, draw, flip=recipe.flip) for places in places_KT
        ]
        return torch.stack(views)


@dataclass
class FreshTokens:
    """Reads batches of items and encodes random views of them."""

    encoder: FrameEncoder
    items: LabelledItems
    recipe: Recipe
    seed: int
    rejected: dict[str, str] = field(default_factory=dict)
    """Item -> the reason why it could not be read in some epoch."""

    @property
    def segments(self) -> int:
        """Number of clips of an item, which is that of the first one: an image has one."""
        return 1 if is_image(self.items.items[0].path) else self.recipe.num_segments

    def read(self, epoch: int, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens [1, B, N, D] and labels [B] of the items that can be read.

        An item that cannot be read is noted in `rejected`; no other item takes its place.
        """
        clips, labels = [], []
        for number in numbers.tolist():
            item = self.items.items[number]
            draw = RandomState((self.seed, epoch, number))
            try:
                clip = augmented_clips(item.path, self.recipe, self.encoder.image_size[0], draw)
                if len(clip) != self.segments:
                    raise DataError(
                        f"{item.path} has {len(clip)} clips, those of the first item "
                        f"{self.segments}: images and videos train together with num_segments=1"
                    )
                clips.append(clip)
                labels.append(item.label)
            except DataError as error:
                if str(item.path) not in self.rejected:
                    log.warning("%s", error)
                self.rejected[str(item.path)] = str(error)
        if not clips:
            return torch.empty(1, 0, 0, self.encoder.embed_dim), torch.empty(0).long()
        levels = four_levels(self.encoder) if self.recipe.levels == "four" else ()
        clips_KVBTHWC = torch.stack(clips, dim=1)[:, None]
        return view_tokens(self.encoder, clips_KVBTHWC, levels), torch.tensor(labels)
