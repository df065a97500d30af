"""What a planner needs of a model: frames to tokens, actions to imagined tokens.

Shapes: B samples, H W pixels, N tokens a frame, D width, K horizon, S state (7), A action (7).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.actions import apply_action
from worldmodel.errors import ShapeError
from worldmodel.models.ac_predictor import ActionConditionedPredictor, CacheList
from worldmodel.models.config import Convention, ModelConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.specs import ActionSpec, ObservationSpec


def normalise(tokens: Tensor) -> Tensor:
    """LayerNorm without weights over the last axis, as on targets and predictions."""
    return F.layer_norm(tokens, tokens.shape[-1:])


class WorldModel(nn.Module):
    """Encoder + action-conditioned predictor + the convention that gives numbers a meaning.

    Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.
    """

    def __init__(
        self,
        config: ModelConfig,
        encoder: VisionTransformer | None = None,
        predictor: ActionConditionedPredictor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = VisionTransformer(config.encoder) if encoder is None else encoder
        self.predictor = (
            ActionConditionedPredictor(config.predictor) if predictor is None else predictor
        )
        convention = config.convention
        for name in ("pixel_mean", "pixel_std", "state_scale", "state_offset", "action_scale"):
            value = torch.tensor(getattr(convention, name), dtype=torch.float32)
            self.register_buffer(name, value, persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self.state_scale: Tensor
        self.state_offset: Tensor
        self.action_scale: Tensor

    @classmethod
    def of(
        cls,
        encoder: VisionTransformer,
        predictor: ActionConditionedPredictor,
        convention: Convention,
    ) -> WorldModel:
        """A model around an encoder and a predictor that hold their weights already.

        Raises:
            ShapeError: the predictor was made for other tokens than this encoder's.
        """
        width, wanted = encoder.config.embed_dim, predictor.config.encoder_dim
        if width != wanted:
            raise ShapeError(
                f"the encoder's tokens are {width} wide, the predictor wants {wanted}: "
                "take the encoder that the predictor was trained on"
            )
        config = ModelConfig(
            encoder=encoder.config, predictor=predictor.config, convention=convention
        )
        return cls(config, encoder, predictor).eval()

    @property
    def convention(self) -> Convention:
        """Step time, frame of the state, meaning of the gripper number."""
        return self.config.convention

    @property
    def observation_spec(self) -> ObservationSpec:
        """What the model sees: image transform and size, cameras, frame of the state."""
        return self.convention.observation_spec(self.image_size, "droid")

    @property
    def action_spec(self) -> ActionSpec:
        """What an action means: gripper, period and limits."""
        return self.convention.action_spec()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width [px] that `encode` takes."""
        return self.config.encoder.image_size

    def pixels(
        self, frames_BHWC: Tensor, colour_B33: Tensor | None = None, gain_BHW: Tensor | None = None
    ) -> Tensor:
        """uint8 RGB [B,H,W,3] -> normalised float [B,3,H,W].

        Augmentation: `gain_BHW` multiplies the brightness of each pixel, `colour_B33` maps each
        frame's RGB, before it is normalised.
        """
        x = frames_BHWC.to(self.pixel_mean.device).float()
        if gain_BHW is not None:
            x = x * gain_BHW.unsqueeze(-1)
        if colour_B33 is None:
            x = (x / 255.0 - self.pixel_mean) / self.pixel_std
        else:
            mixed = colour_B33.transpose(1, 2) / (255.0 * self.pixel_std)
            offset = (-self.pixel_mean / self.pixel_std).expand(len(x), 1, 3)
            x = torch.baddbmm(offset, x.flatten(1, 2), mixed).view(x.shape)
        return x.permute(0, 3, 1, 2)

    def encode_frames(
        self, frames_BHWC: Tensor, colour_B33: Tensor | None = None, gain_BHW: Tensor | None = None
    ) -> Tensor:
        """`encode` without its checks and with gradients (training)."""
        clip_BCTHW = self.pixels(frames_BHWC, colour_B33, gain_BHW).unsqueeze(2)
        if self.convention.frames_per_token == 2:
            clip_BCTHW = clip_BCTHW.expand(-1, -1, 2, -1, -1)
        z_BND = self.encoder(clip_BCTHW)
        return normalise(z_BND) if self.convention.normalise_tokens else z_BND

    @torch.no_grad()
    def encode(self, frames_BHWC: Tensor) -> Tensor:
        """Encode single frames, each alone.

        Args:
            frames_BHWC: uint8 RGB, 0..255, at the model's image size.

        Returns:
            Normalised tokens [B, N, D] float32.

        Raises:
            ShapeError: wrong rank, channels, dtype or size; the message says the mend.
        """
        frames_BHWC = torch.as_tensor(frames_BHWC)
        if frames_BHWC.ndim != 4 or frames_BHWC.shape[-1] != 3:
            raise ShapeError(
                f"frames have shape {tuple(frames_BHWC.shape)}; wanted [B, H, W, 3]: "
                "add a batch axis with frames[None], channels last"
            )
        if frames_BHWC.dtype != torch.uint8:
            raise ShapeError(
                f"frames are {frames_BHWC.dtype}; wanted uint8 RGB in 0..255: "
                "for floats in 0..1 use (frames * 255).round().astype('uint8')"
            )
        if tuple(frames_BHWC.shape[1:3]) != tuple(self.image_size):
            raise ShapeError(
                f"frames are {tuple(frames_BHWC.shape[1:3])} pixels; this model wants "
                f"{tuple(self.image_size)}: resize them with worldmodel.data.transforms"
            )
        return self.encode_frames(frames_BHWC).float()

    def scale_state(self, state_S: Tensor) -> Tensor:
        """States in the units that the predictor was trained on."""
        change_S = state_S - self.state_offset
        if self.convention.wrap_angles:
            angles = torch.remainder(change_S[..., 3:6] + torch.pi, 2 * torch.pi) - torch.pi
            change_S = torch.cat([change_S[..., :3], angles, change_S[..., 6:]], dim=-1)
        return change_S / self.state_scale

    def predict(
        self,
        frames_BTND: Tensor,
        actions_BTA: Tensor,
        states_BTS: Tensor,
        extrinsics_BT6: Tensor | None = None,
    ) -> Tensor:
        """Next frame's tokens for every frame given (teacher forcing), normalised [B,T,N,D].

        `extrinsics_BT6` is the camera's pose, for a predictor that was trained with it.
        """
        batch, time, tokens, width = frames_BTND.shape
        out = self.predictor(
            frames_BTND.reshape(batch, time * tokens, width),
            actions_BTA / self.action_scale,
            self.scale_state(states_BTS),
            extrinsics_BT6,
        )
        out = out.reshape(batch, time, tokens, width)
        return normalise(out) if self.convention.normalise_tokens else out

    def next_state(self, state_BS: Tensor, action_BA: Tensor) -> Tensor:
        """State after an action; a gripper command moves the closedness to its end."""
        if self.convention.gripper == "difference":
            return apply_action(state_BS, action_BA)
        command_B1 = action_BA[..., 6:]
        moved = apply_action(state_BS, torch.cat([action_BA[..., :6], 0 * command_B1], -1))
        closed_B1 = torch.where(
            command_B1 > 0.15, 1.0, torch.where(command_B1 < -0.15, 0.0, moved[..., 6:])
        )
        return torch.cat([moved[..., :6], closed_B1], -1)

    def remember(self, frames_1TND: Tensor, states_1TS: Tensor, actions_1TA: Tensor) -> CacheList:
        """Keys and values of T frames before the present one, for `unroll`'s `past`."""
        cache: CacheList | None = None
        for t in range(frames_1TND.shape[1]):
            _, cache = self.predictor.step(
                frames_1TND[:, t],
                actions_1TA[:, t] / self.action_scale,
                self.scale_state(states_1TS[:, t]),
                cache,
            )
        return cache or []

    def unroll(
        self,
        z_BND: Tensor,
        state_BS: Tensor,
        actions_BKA: Tensor,
        past: CacheList | None = None,
        *,
        extrinsics_B6: Tensor | None = None,
    ) -> Tensor:
        """Imagine what `actions_BKA` do, keeping keys and values of past frames.

        Args:
            z_BND: tokens of the present frame; batch 1 is shared by all samples.
            state_BS: present state; batch 1 is shared.
            actions_BKA: K actions for each of B samples.
            past: frames before the present one, from `remember`; shared by all samples.
            extrinsics_B6: the camera's pose, which stays; for a predictor trained with it.

        Returns:
            Imagined tokens [B, K, N, D], the same as recomputing the whole history each step.
        """
        batch, horizon = actions_BKA.shape[:2]
        frame = z_BND if z_BND.shape[0] in (1, batch) else z_BND[:1]
        state = state_BS if state_BS.shape[0] in (1, batch) else state_BS[:1]
        cache, out = None, []
        for k in range(horizon):
            action = actions_BKA[:, k]
            frame, cache = self.predictor.step(
                frame,
                action / self.action_scale,
                self.scale_state(state),
                cache,
                extrinsics_B6,
                shared=past,
                keep_cache=k + 1 < horizon,
            )
            if self.convention.normalise_tokens:
                frame = normalise(frame)
            out.append(frame)
            state = self.next_state(state, action)
        return torch.stack(out, dim=1)

    def bytes_per_sample(self, horizon: int, itemsize: int = 4) -> int:
        """Memory that `unroll` takes for each sample: keys, values and one layer's activations."""
        c = self.config.predictor
        tokens = c.grid[0] * c.grid[1] + 3
        cached = (horizon - 1) * c.depth * 2 * tokens * c.embed_dim
        layer = tokens * c.embed_dim * (8 + c.mlp_ratio) + 2 * c.num_heads * tokens**2 * horizon
        imagined = 2 * horizon * tokens * c.encoder_dim
        return int(itemsize * (cached + layer + imagined))
