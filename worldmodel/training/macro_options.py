"""Options of `mode=macro`, which trains a slow dynamics of macro-actions.

This module does not import torch, so that `--help` is fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.training.clip_options import ContactClipConfig
from worldmodel.training.network_options import MAX_DEPTH, MAX_WIDTH
from worldmodel.training.run_options import LaunchConfig, LoopConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True, kw_only=True)
class MacroStart(Checked):
    """World model whose slow dynamics is trained."""

    encoder: str = "one_goal_labelled"
    """World model: an embedded name, file, or folder of a training run. All its parts stay as they
    are, and the exported model holds them."""


@dataclass(frozen=True, kw_only=True)
class MacroSizes(Checked):
    """Sizes and losses of the slow dynamics."""

    span: int = field(default=8, metadata=between(2, 256, "actions"))
    """Number of actions of a macro-action."""
    code_dim: int = field(default=8, metadata=between(1, 1024))
    """Number of components of a macro-action."""
    macro_dim: int = field(default=256, metadata=between(1, MAX_WIDTH))
    """Width of the slow predictor's tokens and of the hidden layers of the encoder of actions."""
    macro_depth: int = field(default=4, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks of the slow predictor."""
    macro_heads: int = field(default=4, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the slow predictor."""
    num_sequences: int = field(default=1024, metadata=between(2, 2**16))
    """Number of recorded sequences of actions in the model, whose codes start every search."""
    code_noise: float = field(default=0.1, metadata=between(0, 1))
    """Standard deviation of the noise on codes in training, which makes similar codes mean similar
    motions."""
    macro_match: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of the difference between the object positions decoded from imagined and from encoded
    frames; needs a model with an object head."""


@dataclass(frozen=True, kw_only=True)
class MacroOptions(Checked):
    """`mode=macro`: train a slow dynamics of macro-actions beside a trained world model."""

    recipe: str = ""
    """Recipe in configs/train, or a .yaml file; other options override its values."""
    mode: Literal["macro"] = "macro"
    """Training mode; a recipe sets its own."""
    run: RunConfig = field(default_factory=RunConfig)
    start: MacroStart = field(default_factory=MacroStart)
    clips: ContactClipConfig = field(default_factory=lambda: ContactClipConfig(num_frames=25))
    macro: MacroSizes = field(default_factory=MacroSizes)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000))
    launch: LaunchConfig = field(default_factory=LaunchConfig)

    def __post_init__(self) -> None:
        """Check that a clip holds whole macro-actions.

        Raises:
            ConfigError: An option is out of range, or no macro-action fits into a clip.
        """
        super().__post_init__()
        steps, span = self.clips.num_frames - 1, self.macro.span
        if steps % span:
            raise ConfigError(
                f"num_frames={steps + 1} is not a whole number of macro-actions of span={span}: "
                f"set num_frames to {span + 1}, {2 * span + 1}, {3 * span + 1} or so"
            )
