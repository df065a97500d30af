"""Options of objects followed through videos; without torch, for the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between


@dataclass(frozen=True, kw_only=True)
class PropagationOptions(Checked):
    """Neighbours that a token takes its label from; the defaults are V-JEPA 2.1's best."""

    short_side: int = field(default=480, metadata=between(16, 4096, "px"))
    """Shorter side of the frames for the encoder, rounded to whole patches."""
    context: int = field(default=15, metadata=between(1, 1024, "frames"))
    """Number of earlier frames that give labels, besides the first one."""
    radius: int = field(default=12, metadata=between(1, 1024, "tokens"))
    """Maximum distance between a token and its neighbours."""
    neighbourhood: Literal["circle", "square"] = "circle"
    """Shape of the neighbourhood."""
    top_k: int = field(default=5, metadata=between(1, 1024))
    """Number of most similar tokens, over all frames, that give a token its label."""
    temperature: float = field(default=0.2, metadata=between(1e-4, 100))
    """Temperature of the softmax over their similarities."""
