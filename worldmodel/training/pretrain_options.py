"""Groups of options of `worldmodel pretrain` alone; see `worldmodel.training.option_groups`."""

from __future__ import annotations

from dataclasses import dataclass, field

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.training.option_groups import MAX_DEPTH, MAX_STEPS, ClipLength


@dataclass(frozen=True, kw_only=True)
class ShapesConfig(ClipLength):
    """Made clips of moving shapes."""

    num_frames: int = field(default=6, metadata=between(2, 64, "frames"))
    """Number of frames per clip."""
    num_clips: int = field(default=200_000, metadata=between(64, 2**31 - 1, "clips"))
    """Number of different training clips, which are made when a step needs them."""
    data_seed: int = field(default=1000, metadata=between(1, 2**31 - 1))
    """Seed of the training clips; the held-out clips have seed 0, so other textures and paths."""
    store: str = ""
    """Folder in which the training clips are made once and kept, for this run and others of the
    same set: 29 kB a clip of 40 px and 6 frames (empty: every step makes its clips)."""


@dataclass(frozen=True, kw_only=True)
class DenseConfig(Checked):
    """V-JEPA 2.1's dense losses of pretraining, targets of several blocks, and SIGReg."""

    levels: int = field(default=1, metadata=between(1, MAX_DEPTH))
    """Number of encoder blocks, evenly spread to the last one, whose tokens the predictor sees and
    predicts (1: the encoder's output alone; published: 4)."""
    target_blocks: int = field(default=1, metadata=between(1, MAX_DEPTH))
    """Number of the encoder's last blocks whose normalised tokens are averaged to the targets (1:
    its output alone, as published); excludes levels."""
    context_loss: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of the error at visible tokens, which the predictor predicts as well (0: hidden tokens
    alone; published: 0.5)."""
    context_distance: bool = True
    """Divide the error of a visible token by the square root of its distance to the nearest token
    to predict, in tokens; needs context_loss."""
    context_from: int = field(default=0, metadata=between(0, MAX_STEPS, "steps"))
    """Step at which the weight context_loss begins to rise from 0 (published: 15,000)."""
    context_until: int = field(default=0, metadata=between(0, MAX_STEPS, "steps"))
    """Step at which it is reached (published: 30,000)."""
    sigreg: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of SIGReg (LeJEPA), which brings the encoder's visible tokens near a standard normal
    distribution and so keeps their rank (0: not used, as published)."""

    def __post_init__(self) -> None:
        """Reject options that have no effect or exclude each other.

        Raises:
            ConfigError: An option is out of range or has no effect.
        """
        super().__post_init__()
        ramp = {"context_from": self.context_from, "context_until": self.context_until}
        changed = {name: value for name, value in ramp.items() if value}
        changed |= {} if self.context_distance else {"context_distance": False}
        if changed and not self.context_loss:
            raise ConfigError(
                f"{changed} has no effect with context_loss=0: leave it out, or set context_loss "
                "above 0"
            )
        if self.levels > 1 and self.target_blocks > 1:
            raise ConfigError(
                f"target_blocks={self.target_blocks} averages what levels={self.levels} predicts "
                "one by one: leave one of them out"
            )
        if self.context_until < self.context_from:
            raise ConfigError(
                f"context_until={self.context_until} is before context_from={self.context_from}: "
                "give a later step, or the same one"
            )
