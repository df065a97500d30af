"""Options of losses, augmentation and the planning check.

This module does not import torch, so that `--help` is fast. The docstring under a field is its help
text; every number declares its range, and every class validates its values on construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Checked):
    """Prediction losses; teacher forcing has weight 1."""

    rollout: float = field(default=1.0, metadata=between(0, 1e6))
    """Weight of the rollout loss."""
    rollout_steps: int = field(default=2, metadata=between(1, 1024))
    """Number of predicted steps in the rollout loss (published: 2)."""


@dataclass(frozen=True, kw_only=True)
class MemoryRolloutConfig(RolloutConfig):
    """Prediction losses of runs on episodes in memory."""

    rollout_kind: Literal["published", "free"] = "published"
    """Kind of rollout. published: after one teacher-forced step, with recorded robot states, and
    the whole past computed again at each step; free: from the first frame alone, as the planner
    imagines, with cached keys and values and robot states that follow from the actions."""
    rollout_restart: float = field(default=0.0, metadata=between(0, 1))
    """Probability that a free rollout forgets its past at a random step, as long plans do; requires
    rollout_kind=free."""
    teacher_forcing: float = field(default=1.0, metadata=between(0, 1000))
    """Weight of the teacher-forced loss; the published rollout needs it above 0."""
    predict_state: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of predicting the next robot state beside the next frame, which only training uses (0:
    not predicted); requires rollout_kind=free."""

    def __post_init__(self) -> None:
        """Reject options that the kind of rollout would ignore.

        Raises:
            ConfigError: An option is out of range or has no effect.
        """
        super().__post_init__()
        if self.rollout_kind == "published" and self.rollout_restart:
            raise ConfigError(
                f"rollout_restart={self.rollout_restart:g} has no effect with "
                "rollout_kind=published: leave it out, or set rollout_kind=free"
            )
        if self.rollout_kind == "published" and self.predict_state:
            raise ConfigError(
                f"predict_state={self.predict_state:g} has no effect with rollout_kind=published: "
                "leave it out, or set rollout_kind=free"
            )
        if self.rollout_kind == "published" and not self.teacher_forcing:
            raise ConfigError(
                "teacher_forcing=0 needs rollout_kind=free: the published rollout starts with a "
                "teacher-forced step"
            )


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Checked):
    """Object head, which decodes the poses of objects from the latent."""

    head_weight: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of decoding object poses from encoded and from imagined frames (0: no object head)."""
    head_label: Literal["hindsight", "simulator"] = "hindsight"
    """Source of the poses that the object head learns. hindsight: the robot states tell, after a
    grasp, where the grasped object was; no label of a simulator. simulator: a label from the
    simulator, the poses of all objects in all frames; the model's file then says so."""
    head_match: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of the difference between the object positions decoded from imagined and from encoded
    frames; needs an object head."""

    def __post_init__(self) -> None:
        """Reject a label that nothing learns.

        Raises:
            ConfigError: An option is out of range or has no effect.
        """
        super().__post_init__()
        if self.head_label == "simulator" and not self.head_weight:
            raise ConfigError(
                "head_label=simulator has no effect with head_weight=0: leave it out, or set "
                "head_weight above 0"
            )

    @property
    def uses_simulator(self) -> bool:
        """Whether the head learns from a simulator's label."""
        return self.head_weight > 0 and self.head_label == "simulator"


@dataclass(frozen=True, kw_only=True)
class RegularizerConfig(Checked):
    """Regularisers that prevent collapse while the encoder is trained; 0 disables a term."""

    variance: float = field(default=1.0, metadata=between(0, 1e6))
    """Weight of the variance hinge (VICReg)."""
    covariance: float = field(default=0.05, metadata=between(0, 1e6))
    """Weight of the covariance term (VICReg)."""
    inverse: float = field(default=0.5, metadata=between(0, 1e6))
    """Weight of decoding the action from two consecutive latents."""
    state: float = field(default=0.5, metadata=between(0, 1e6))
    """Weight of decoding the robot state from the latent."""
    object: float = field(default=0.0, metadata=between(0, 1e6))
    """Weight of decoding the object position, a label from simulators only."""


@dataclass(frozen=True, kw_only=True)
class ColourConfig(Checked):
    """Colour augmentation, the same for all frames of a clip."""

    augment: float = field(default=0.1, metadata=between(0, 1))
    """Standard deviation of the random brightness and colour gains."""
    hue_deg: float = field(default=0.0, metadata=between(0, 180, "deg"))
    """Maximum random hue rotation."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(ColourConfig):
    """Colour and pattern augmentation, the same for all frames of a clip."""

    pattern: float = field(default=0.0, metadata=between(0, 1))
    """Maximum relative change of brightness by a static random pattern."""


@dataclass(frozen=True, kw_only=True)
class PlanCheckConfig(Checked):
    """Planning check at validations, which gives the action error."""

    plan_clips: int = field(default=4, metadata=between(0, 1_000_000, "clips"))
    """Number of held-out clips whose first move and turn are planned and compared with the recorded
    ones."""
