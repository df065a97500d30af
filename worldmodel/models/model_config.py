"""Configuration of whole models: network sizes, specs and units.

`worldmodel.models.config_dict` turns these dataclasses into the dictionaries inside a checkpoint
and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.models.config import (
    EncoderConfig,
    MacroConfig,
    ObjectHeadConfig,
    OwnEncoderConfig,
    PredictorConfig,
    TransformersConfig,
)
from worldmodel.specs import ActionSpec, ObservationSpec


@dataclass(frozen=True, kw_only=True)
class Scaling(Checked):
    """Units of the predictor's states and actions, stored with every world model.

    An empty tuple applies no scaling.
    """

    state_scale: tuple[float, ...] = field(default=(), metadata=between(-1e6, 1e6))
    """Divisor of each state component, after subtracting `state_offset` [m, rad, closedness]."""
    state_offset: tuple[float, ...] = field(default=(), metadata=between(-1e6, 1e6))
    """Offset subtracted from each state component."""
    action_scale: tuple[float, ...] = field(default=(), metadata=between(-1e6, 1e6))
    """Divisor of each action component."""
    wrap_angles: bool = False
    """Whether to wrap the three angles of a pose to within pi of `state_offset` before scaling; the
    roll of a tool that points down is at the branch cut."""
    normalise_tokens: bool = True
    """Whether to apply LayerNorm without weights to encoder tokens and predictions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("state_scale", "action_scale"):
            if not all(value > 0 for value in getattr(self, name)):
                raise ConfigError(f"{name}={getattr(self, name)} must hold numbers above 0")


BackboneConfig = EncoderConfig | TransformersConfig | OwnEncoderConfig
DEFAULT_ACTION = ActionSpec()
UNSCALED = Scaling()


@dataclass(frozen=True, kw_only=True)
class FrameEncoderConfig(Checked):
    """Configuration of a frame encoder, sufficient to rebuild it without weights."""

    encoder: BackboneConfig
    observation: ObservationSpec
    normalise_tokens: bool = True
    """Whether to apply LayerNorm without weights to the tokens of `encode` (not `encode_clip`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        found, wanted = self.observation.frames_per_token, self.encoder.tubelet_size
        if found != wanted and not _has_image_path(self.encoder):
            raise ConfigError(
                f"frames_per_token={found}, but the encoder's tubelets hold {wanted} frames: "
                "make them equal"
            )


def _has_image_path(encoder: BackboneConfig) -> bool:
    """Return whether an encoder with longer tubelets also takes single frames (V-JEPA 2.1)."""
    return isinstance(encoder, EncoderConfig) and (
        encoder.modality_embedding or encoder.stem == "conv"
    )


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """Configuration of a latent dynamics, sufficient to rebuild it without weights."""

    predictor: PredictorConfig
    action: ActionSpec = DEFAULT_ACTION
    scaling: Scaling = UNSCALED

    def __post_init__(self) -> None:
        p, s = self.predictor, self.scaling
        if self.action.action_dim != p.action_dim:
            raise ConfigError(
                f"action_dim={self.action.action_dim} in the action spec, {p.action_dim} in the "
                "predictor: make them equal"
            )
        sizes = {
            "state_scale": p.state_dim,
            "state_offset": p.state_dim,
            "action_scale": p.action_dim,
        }
        for name, size in sizes.items():
            if len(getattr(s, name)) not in (0, size):
                raise ConfigError(f"{name} holds {len(getattr(s, name))} numbers; use {size} or 0")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Configuration of a world model, sufficient to rebuild it without weights."""

    encoder: BackboneConfig
    predictor: PredictorConfig
    observation: ObservationSpec
    action: ActionSpec = DEFAULT_ACTION
    scaling: Scaling = UNSCALED
    object_head: ObjectHeadConfig | None = None
    """Head that decodes object poses; None in a model without one."""
    macro: MacroConfig | None = None
    """Slow dynamics of macro-actions; None in a model without one."""
    home_head: ObjectHeadConfig | None = None
    """Head for frames in which the arm is at its start pose; None in a model without one."""

    def __post_init__(self) -> None:
        if self.encoder.embed_dim != self.predictor.encoder_dim:
            raise ConfigError(
                f"The encoder's tokens are {self.encoder.embed_dim} wide, the predictor takes "
                f"{self.predictor.encoder_dim}: use the encoder that the predictor was trained on"
            )
        if self.observation.state_dim != self.predictor.state_dim:
            raise ConfigError(
                f"state_dim={self.observation.state_dim} in the observation spec, "
                f"{self.predictor.state_dim} in the predictor: make them equal"
            )
        cameras = self.observation.cameras
        if len(cameras) != self.predictor.num_views:
            raise ConfigError(
                f"cameras={list(cameras)} in the observation spec, num_views="
                f"{self.predictor.num_views} in the predictor: name one camera for each view"
            )
        self._check_heads()
        self._check_macro()
        _ = self.frame_encoder, self.dynamics  # validate the parts together

    def _check_heads(self) -> None:
        tokens = self.predictor.num_tokens, self.encoder.embed_dim
        for name, head in (("object", self.object_head), ("home", self.home_head)):
            if head is not None and (head.num_tokens, head.token_dim) != tokens:
                raise ConfigError(
                    f"The {name} head reads {head.num_tokens} tokens of width {head.token_dim}, a "
                    f"frame has {tokens[0]} of width {tokens[1]}: use the head of this encoder"
                )

    def _check_macro(self) -> None:
        if self.macro is None:
            return
        slow, fast = self.macro.predictor, self.predictor
        found = slow.grid, slow.num_views, slow.encoder_dim, self.macro.num_actions
        wanted = fast.grid, fast.num_views, fast.encoder_dim, fast.action_dim
        if found != wanted:
            raise ConfigError(
                f"The macro dynamics has (token grid, views, width, action size) {found}, the "
                f"predictor {wanted}: use the macro dynamics of this model"
            )

    @property
    def frame_encoder(self) -> FrameEncoderConfig:
        """Configuration of the frame encoder."""
        return FrameEncoderConfig(
            encoder=self.encoder,
            observation=self.observation,
            normalise_tokens=self.scaling.normalise_tokens,
        )

    @property
    def dynamics(self) -> DynamicsConfig:
        """Configuration of the latent dynamics."""
        return DynamicsConfig(predictor=self.predictor, action=self.action, scaling=self.scaling)
