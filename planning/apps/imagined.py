"""Pictures of what a planner imagined, for the report: the nearest recorded frames.

Shapes: F frames of a bank, N tokens, C width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planning.rollout import Episode
from worldmodel.models.world_model import WorldModel

BANK = 400
"""Maximum number of recorded frames among which the nearest one is searched."""
CHUNK = 64
"""Frames that are encoded at once."""
Picture = NDArray[np.uint8]


class FrameBank:
    """Recorded frames of episodes, and their tokens.

    Args:
        episodes: episodes with frames.
        world: the model that encodes them.
    """

    @torch.no_grad()
    def __init__(self, episodes: Sequence[Episode], world: WorldModel) -> None:
        frames = [frame for episode in episodes for frame in episode.frames]
        self.frames = frames[:: max(1, -(-len(frames) // BANK))]
        device = next(world.parameters()).device
        parts = []
        for start in range(0, len(self.frames), CHUNK):
            part = torch.from_numpy(np.stack(self.frames[start : start + CHUNK]))
            parts.append(world.encode(world.preprocess(part).to(device)).float().cpu())
        self.z_FNC = torch.cat(parts)

    def nearest(self, z_NC: Tensor) -> Picture:
        """Return the frame whose tokens are nearest (L1)."""
        away_F = (self.z_FNC - z_NC).abs().flatten(1).mean(1)
        return self.frames[int(away_F.argmin())]


def add_imagined(episodes: Sequence[Episode], world: WorldModel) -> None:
    """Add a picture of each imagined end to the episodes' decisions.

    Episodes without frames, or whose planner imagined no skill, stay as they are.
    """
    shown = [
        e for e in episodes if e.frames and any(d.imagined_ND is not None for d in e.decisions)
    ]
    if not shown:
        return
    bank = FrameBank(shown, world)
    for episode in shown:
        episode.imagined_text = "imagined end: nearest recorded frame"
        episode.imagined = [
            None if d.imagined_ND is None else bank.nearest(torch.from_numpy(d.imagined_ND).float())
            for d in episode.decisions
        ]
