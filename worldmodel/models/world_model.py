"""World model: a frame encoder and the latent dynamics trained on its tokens.

Shapes: B samples, T frames, V views, H W pixels, N tokens per frame, D width, K horizon, S state, A
action.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.actions import convert_state
from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.ac_predictor import ActionConditionedPredictor, CacheList
from worldmodel.models.config import EncoderConfig, OwnEncoderConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder, normalise
from worldmodel.models.macro import MacroDynamics
from worldmodel.models.model_config import FrameEncoderConfig, ModelConfig
from worldmodel.models.object_head import ObjectHead, ObjectPose
from worldmodel.models.transformers_encoder import TransformersEncoder
from worldmodel.models.views import encode_views
from worldmodel.specs import ActionSpec, ObservationSpec, StateFrame

__all__ = ["WorldModel", "build_frame_encoder", "normalise"]


def build_frame_encoder(config: FrameEncoderConfig) -> FrameEncoder:
    """Build the frame encoder of a config with random weights.

    Raises:
        ConfigError: The encoder is of a user's class, which no config can build.
    """
    if isinstance(config.encoder, EncoderConfig):
        return VideoEncoder(config)
    if isinstance(config.encoder, OwnEncoderConfig):
        raise ConfigError(f"The encoder is the user's class {config.encoder.code}: create it")
    return TransformersEncoder(config)


class WorldModel(nn.Module):
    """Encodes frames to tokens and predicts the tokens that result from actions.

    Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        dynamics: LatentDynamics,
        object_head: ObjectHead | None = None,
        macro: MacroDynamics | None = None,
        home_head: ObjectHead | None = None,
    ) -> None:
        """Combine an encoder, a dynamics and, if there are any, object heads and a slow dynamics.

        Args:
            encoder: Encodes frames.
            dynamics: Predicts tokens.
            object_head: Decodes encoded and predicted tokens.
            macro: Slow dynamics of macro-actions.
            home_head: Decodes encoded frames in which the arm is at its start pose.

        Raises:
            ConfigError: The dynamics expects other tokens, states or normalisation, or another part
                other tokens or actions.
        """
        super().__init__()
        self.encoder = encoder
        self.dynamics = dynamics
        self.object_head = object_head
        self.macro = macro
        self.home_head = home_head
        self.config = ModelConfig(
            encoder=encoder.config.encoder,
            predictor=dynamics.config.predictor,
            observation=encoder.config.observation,
            action=dynamics.config.action,
            scaling=dynamics.config.scaling,
            object_head=None if object_head is None else object_head.config,
            macro=None if macro is None else macro.config,
            home_head=None if home_head is None else home_head.config,
        )

    @classmethod
    def from_config(cls, config: ModelConfig) -> WorldModel:
        """Build a world model with random weights, drawn for the encoder first."""
        encoder = build_frame_encoder(config.frame_encoder)
        dynamics = LatentDynamics(config.dynamics)
        head = None if config.object_head is None else ObjectHead(config.object_head)
        macro = None if config.macro is None else MacroDynamics(config.macro)
        home = None if config.home_head is None else ObjectHead(config.home_head)
        return cls(encoder, dynamics, head, macro, home)

    @property
    def predictor(self) -> ActionConditionedPredictor:
        """The network inside the dynamics."""
        return self.dynamics.predictor

    @property
    def observation_spec(self) -> ObservationSpec:
        """Observation conventions: image size and transform, cameras, pixel statistics, state."""
        return self.encoder.observation_spec

    @property
    def action_spec(self) -> ActionSpec:
        """Action conventions: size, gripper, period and limits."""
        return self.dynamics.action_spec

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of `encode`'s input images [px]."""
        return self.encoder.image_size

    def preprocess(self, frames_HWC: Tensor) -> Tensor:
        """Transform uint8 frames of any size [..., H, W, 3] to `image_size`."""
        return self.encoder.preprocess(frames_HWC)

    @property
    def num_views(self) -> int:
        """Number of cameras that the model sees; `observation_spec.cameras` names them."""
        return self.predictor.config.num_views

    def encode(self, frames_BHWC: Tensor) -> Tensor:
        """Encode uint8 frames at `image_size` independently to float32 tokens [B, N, D].

        Args:
            frames_BHWC: Frames; of a model of V views, [B, V, H, W, 3] in the order of its cameras.

        Raises:
            ShapeError: The rank, views, channels, dtype or size are wrong.
        """
        frames, views = torch.as_tensor(frames_BHWC), self.num_views
        if views > 1 and (frames.ndim != 5 or frames.shape[1] != views):
            raise ShapeError(
                f"frames have shape {tuple(frames.shape)}; this model sees the cameras "
                f"{', '.join(self.observation_spec.cameras)}: use [B, {views}, H, W, 3]"
            )
        return encode_views(self.encoder.encode, frames)

    def encode_main(self, frames_BHWC: Tensor) -> Tensor:
        """Encode frames [B, H, W, 3] of the main view alone, such as goals.

        Returns:
            The first tokens of `encode`; all of them in a model of one view.
        """
        return self.encoder.encode(frames_BHWC)

    def locate(self, z_BND: Tensor) -> ObjectPose | None:
        """Decode object poses from encoded or predicted tokens; None without an object head.

        Tokens of the first views alone are allowed, such as those of `encode_main`.
        """
        return None if self.object_head is None else self.object_head.locate(z_BND)

    def locate_at_home(self, z_BND: Tensor) -> ObjectPose | None:
        """Decode object poses from encoded frames in which the arm is at its start pose.

        Where all frames have the arm in the same place, a head of its own decodes more exactly.
        Without one this is `locate`.
        """
        return self.locate(z_BND) if self.home_head is None else self.home_head.locate(z_BND)

    def convert_state(self, state_S: Tensor, frame: StateFrame) -> Tensor:
        """Convert states [..., 7] of `frame` to the model's state frame."""
        return convert_state(state_S, frame, self.observation_spec.state_frame)

    def predict(
        self,
        frames_BTND: Tensor,
        actions_BTA: Tensor,
        states_BTS: Tensor,
        extrinsics_BT6: Tensor | None = None,
    ) -> Tensor:
        """Predict the next frame's tokens for every input frame; see `LatentDynamics.predict`."""
        return self.dynamics.predict(frames_BTND, actions_BTA, states_BTS, extrinsics_BT6)

    def next_state(self, state_BS: Tensor, action_BA: Tensor) -> Tensor:
        """Compute the state after an action; see `LatentDynamics.next_state`."""
        return self.dynamics.next_state(state_BS, action_BA)

    def remember(self, frames_1TND: Tensor, states_1TS: Tensor, actions_1TA: Tensor) -> CacheList:
        """Compute keys and values of T frames before the current one, the `past` of `unroll`."""
        return self.dynamics.remember(frames_1TND, states_1TS, actions_1TA)

    def unroll(
        self,
        z_BND: Tensor,
        state_BS: Tensor,
        actions_BKA: Tensor,
        past: CacheList | None = None,
        *,
        extrinsics_B6: Tensor | None = None,
    ) -> Tensor:
        """Predict the tokens [B, K, N, D] that result from actions; see `LatentDynamics.unroll`."""
        return self.dynamics.unroll(z_BND, state_BS, actions_BKA, past, extrinsics_B6=extrinsics_B6)

    def bytes_per_sample(self, horizon: int, itemsize: int = 4) -> int:
        """Estimate the memory that `unroll` takes per sample [bytes]."""
        return self.dynamics.bytes_per_sample(horizon, itemsize)
