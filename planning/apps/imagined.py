"""Pictures of what a planner imagined, for the report: decoded, or the nearest recorded frames.

Shapes: F frames of a bank, N tokens, C width.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planning.apps.own_encoder import split_code
from planning.rollout import Episode
from worldmodel.checkpoints.picture_decoder import decoder_path, load_decoder
from worldmodel.models.picture_decoder import PictureDecoder, encoder_key
from worldmodel.models.world_model import WorldModel

log = logging.getLogger(__name__)

BANK = 400
"""Maximum number of recorded frames among which the nearest one is searched."""
CHUNK = 64
"""Frames that are encoded at once."""
Picture = NDArray[np.uint8]


class FrameBank:
    """Recorded frames of episodes, and their tokens.

    Args:
        episodes: Episodes with frames.
        world: The model that encodes them.
    """

    @torch.no_grad()
    def __init__(self, episodes: Sequence[Episode], world: WorldModel) -> None:
        frames = [frame for episode in episodes for frame in episode.frames]
        self.frames = frames[:: max(1, -(-len(frames) // BANK))]
        device = next(world.parameters()).device
        parts = []
        for start in range(0, len(self.frames), CHUNK):
            part = torch.from_numpy(np.stack(self.frames[start : start + CHUNK]))
            parts.append(world.encode_main(world.preprocess(part).to(device)).float().cpu())
        self.z_FNC = torch.cat(parts)

    def nearest(self, z_NC: Tensor) -> Picture:
        """Return the frame of the main camera whose tokens are nearest (L1)."""
        away_F = (self.z_FNC - z_NC[: self.z_FNC.shape[1]]).abs().flatten(1).mean(1)
        return self.frames[int(away_F.argmin())]


def find_decoder(model: str, world: WorldModel) -> PictureDecoder | None:
    """Return the decoder beside a model's file; None if there is none for its encoder.

    Args:
        model: Name, file or folder of the model.
        world: The model.
    """
    path = decoder_path(split_code(model)[0])
    if not path.is_file():
        return None
    decoder = load_decoder(path)
    if decoder.fits(encoder_key(world)):
        return decoder
    log.warning(
        "%s was trained with another encoder, so the report shows the nearest recorded frames. "
        "`worldmodel train decoder model=%s` trains it again.",
        path,
        model,
    )
    return None


def add_imagined(episodes: Sequence[Episode], model: str, world: WorldModel) -> None:
    """Add a picture of each imagined end to the episodes' decisions.

    It is decoded if there is a decoder beside the model, else it is the nearest recorded frame.
    Episodes without frames, or whose planner imagined no skill, stay as they are.

    Args:
        episodes: Episodes of one planner.
        model: Name, file or folder of the model.
        world: The model.
    """
    shown = [
        e for e in episodes if e.frames and any(d.imagined_ND is not None for d in e.decisions)
    ]
    if not shown:
        return
    decoder = find_decoder(model, world)
    text = "imagined end, decoded" if decoder else "imagined end: nearest recorded frame"
    bank = FrameBank(shown, world) if decoder is None else None
    for episode in shown:
        episode.imagined_text = text
        episode.imagined = [None] * len(episode.decisions)
        for index, decision in enumerate(episode.decisions):
            if decision.imagined_ND is None:
                continue
            z_NC = torch.from_numpy(decision.imagined_ND).float()
            if bank is not None:
                episode.imagined[index] = bank.nearest(z_NC)
            elif decoder is not None:
                frame = episode.frames[min(decision.step, len(episode.frames) - 1)]
                now = world.preprocess(torch.from_numpy(frame))
                episode.imagined[index] = decoder.picture(z_NC, now)
