"""Tokens of clips before actions, with a gap and a view that are drawn in each epoch.

Shapes: B clips, T frames, H W pixels, N tokens, D width.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from numpy.random import RandomState
from torch import Tensor

from worldmodel.data.episode import rejecting
from worldmodel.data.transforms import Preprocess
from worldmodel.errors import DataError
from worldmodel.perception.anticipation.epic_kitchens import Action, ActionClasses, AnticipationClip
from worldmodel.perception.anticipation.evaluation import Networks, read_clip
from worldmodel.perception.anticipation.pipeline import TARGETS, anticipation_tokens
from worldmodel.perception.surprise.measure import normalise_pixels
from worldmodel.perception.training_views import training_view

log = logging.getLogger(__name__)


@dataclass
class FreshClips:
    """Reads clips before actions and encodes them, with a new gap and view in each epoch."""

    networks: Networks
    actions: Sequence[Action]
    classes: ActionClasses
    root: Path
    clip: AnticipationClip
    image_size: int
    encode_batch: int
    seed: int
    augment: bool
    rejected: dict[str, str] = field(default_factory=dict)
    """Video and frames of an action -> the reason why it could not be read."""

    def read(self, epoch: int, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens [1, B, N, D] and labels [B, 3] of the actions that can be read."""
        tokens, labels = [], []
        waiting: list[tuple[Tensor, float]] = []
        for number in numbers.tolist():
            action, name = self.actions[number], name_of(self.actions[number])
            try:
                with rejecting(name):
                    waiting.append(self._draw(action, epoch, number))
                labels.append(self.classes.labels(action))
            except DataError as error:
                if name not in self.rejected:
                    log.warning("%s: %s", name, error)
                self.rejected[name] = str(error)
            if len(waiting) == self.encode_batch:
                tokens.append(self._encode(waiting))
                waiting = []
        if waiting:
            tokens.append(self._encode(waiting))
        if not tokens:
            width = self.networks.encoder.config.embed_dim
            return torch.empty(1, 0, 0, width), torch.empty(0, len(TARGETS)).long()
        return torch.cat(tokens)[None], torch.tensor(labels)

    def _draw(self, action: Action, epoch: int, number: int) -> tuple[Tensor, float]:
        """Return the frames [T, H, W, 3] of a drawn clip, and its gap [s]."""
        seconds, place = self.clip.draw(random.Random(f"{self.seed} {epoch} {number}"))
        frames = read_clip(self.root, action, self.clip, (seconds, place))
        if not self.augment:
            return Preprocess("published", (self.image_size, self.image_size))(frames), seconds
        draw = RandomState((self.seed, epoch, number))
        return training_view(frames, self.image_size, draw, flip=True), seconds

    @torch.no_grad()
    def _encode(self, clips: list[tuple[Tensor, float]]) -> Tensor:
        """Return the tokens [B, N, D] of clips, float32."""
        frames_BCTHW = torch.stack([frames for frames, _ in clips]).permute(0, 4, 1, 2, 3)
        encoder = self.networks.encoder
        tokens = anticipation_tokens(
            encoder,
            self.networks.predictor,
            normalise_pixels(frames_BCTHW, next(encoder.parameters())),
            torch.tensor([seconds for _, seconds in clips]),
            self.networks.future,
        )
        return tokens.float()


def name_of(action: Action) -> str:
    """Return the name under which an action is rejected."""
    return f"{action.video} {action.start}-{action.stop}"
