"""An encoder with the meaning of its pixels: clips in, features out; no actions.

Shapes: B clips, T frames, H W pixels, N tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.config import Convention, VideoConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.specs import ObservationSpec


def check_clip(clip_BTHWC: Tensor, image_size: tuple[int, int] | None = None) -> Tensor:
    """A clip of uint8 RGB frames, or an error that says the mend.

    Raises:
        ShapeError: wrong rank, channels, dtype or size.
    """
    clip = torch.as_tensor(clip_BTHWC)
    if clip.ndim != 5 or clip.shape[-1] != 3:
        raise ShapeError(
            f"clip has shape {tuple(clip.shape)}; wanted [B, T, H, W, 3] RGB, channels last: "
            "add a batch axis with clip[None]"
        )
    if clip.dtype != torch.uint8:
        raise ShapeError(
            f"clip is {clip.dtype}; wanted uint8 RGB in 0..255: for floats in 0..1 use "
            "(clip * 255).round().astype('uint8'), and [..., ::-1] for BGR"
        )
    if image_size is not None and tuple(clip.shape[2:4]) != tuple(image_size):
        raise ShapeError(
            f"clip is {tuple(clip.shape[2:4])} pixels; wanted {tuple(image_size)}: resize it with "
            "worldmodel.data.transforms"
        )
    return clip


class VideoModel(nn.Module):
    """A published encoder that takes uint8 frames and gives its features.

    Source: V-JEPA 2 (arXiv 2506.09985), sec. 2.
    """

    def __init__(self, config: VideoConfig, encoder: VisionTransformer | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = VisionTransformer(config.encoder) if encoder is None else encoder
        for name in ("pixel_mean", "pixel_std"):
            value = torch.tensor(getattr(config.convention, name), dtype=torch.float32)
            self.register_buffer(name, value, persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor

    @classmethod
    def of(cls, encoder: VisionTransformer, convention: Convention) -> VideoModel:
        """A model around an encoder that holds its weights already."""
        config = VideoConfig(encoder=encoder.config, convention=convention)
        return cls(config, encoder).eval()

    @property
    def convention(self) -> Convention:
        """What pixels mean, and whether a frame alone is repeated."""
        return self.config.convention

    @property
    def observation_spec(self) -> ObservationSpec:
        """What the model sees: image transform and size, cameras, frame of the state."""
        return self.convention.observation_spec(self.image_size, "published")

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width [px] the model was trained at; `encode_clip` takes others too."""
        return self.config.encoder.image_size

    @torch.no_grad()
    def encode_clip(self, clip_BTHWC: Tensor) -> Tensor:
        """Encode clips.

        Args:
            clip_BTHWC: uint8 RGB, 0..255; sides are multiples of the patch size.

        Returns:
            Features [B, N, D] float32, tokens in the order tubelet, row, column.

        Raises:
            ShapeError: wrong rank, channels, dtype or size; the message says the mend.
        """
        clip = check_clip(clip_BTHWC).to(self.pixel_mean.device)
        normalised = (clip.float() / 255.0 - self.pixel_mean) / self.pixel_std
        tokens: Tensor = self.encoder(normalised.permute(0, 4, 1, 2, 3))
        return tokens.float()

    def encode(self, frames_BHWC: Tensor) -> Tensor:
        """Encode single frames, each alone: uint8 [B, H, W, 3] -> [B, N, D].

        Raises:
            ShapeError: wrong rank, channels, dtype or size.
        """
        clip = check_clip(torch.as_tensor(frames_BHWC).unsqueeze(1))
        return self.encode_clip(clip.expand(-1, self.convention.frames_per_token, -1, -1, -1))

    def unroll(self, z_BND: Tensor, state_BS: Tensor, actions_BKA: Tensor) -> Tensor:
        """An encoder alone cannot imagine.

        Raises:
            ConfigError: always; says which models can.
        """
        raise ConfigError(
            "this model has no action-conditioned predictor, so it cannot imagine actions: take "
            "vjepa2-ac-vitg or the embedded 'default', or train one with `worldmodel train`"
        )
