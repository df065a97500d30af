"""Surprise of other encoders, to compare with: VideoMAE and DINOv2.

VideoMAE's decoder predicts the pixels of tokens that its encoder has not seen, so its surprise is
an error in pixels, normalised in each patch as in its training. DINOv2 has no predictor: it is
given the prediction that nothing changes, and its surprise is the difference from the last frame of
the context.

Sources: VideoMAE (arXiv 2203.12602), DINOv2 (arXiv 2304.07193); pixels against latents: Garrido et
al. (arXiv 2502.11831).

Shapes: B windows, T frames, H W pixels, C channels, K context tokens, M target tokens, N = K + M,
D width, P pixel values of a token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.checkpoints.backbones import load_transformers_encoder, load_videomae_decoder
from worldmodel.errors import ConfigError
from worldmodel.models.config import TransformersConfig
from worldmodel.models.transformers_encoder import TransformersEncoder
from worldmodel.perception.surprise.measure import Grid, SurpriseConfig
from worldmodel.specs import IMAGENET_MEAN, IMAGENET_STD


class SeenTokens(nn.Module):
    """Tokens of the frames that a backbone of transformers sees."""

    def __init__(self, backbone: TransformersEncoder) -> None:
        super().__init__()
        assert isinstance(backbone.config.encoder, TransformersConfig)
        self.backbone = backbone
        self.config = backbone.config.encoder

    def forward(self, pixels_BCTHW: Tensor, ids_BK: Tensor | None = None) -> Tensor:
        """Return the tokens [B, N, D] of a clip, or [B, K, D] of its first tokens alone."""
        if ids_BK is None:
            return self.backbone.tokens_of(pixels_BCTHW)
        if self.backbone.is_video:
            return self.backbone.video_tokens(pixels_BCTHW.transpose(1, 2), ids_BK[0])
        height, width = pixels_BCTHW.shape[3:]
        patches = (height // self.config.patch_size) * (width // self.config.patch_size)
        count = int(ids_BK[0, -1]) // patches + 1
        return self.backbone.tokens_of(pixels_BCTHW[:, :, :count])[:, ids_BK[0]]


class LastFrame(nn.Module):
    """Predicts that each place keeps the token of the last frame."""

    def forward(
        self, context_BKD: Tensor, context_ids: Tensor, target_ids: Tensor, token: int, grid: Grid
    ) -> Tensor:
        """Return the tokens [B, M, D] at the targets' places in the last frame."""
        patches = grid[1] * grid[2]
        return context_BKD[:, -patches:][:, target_ids[0] % patches]


class PixelTargets(nn.Module):
    """Pixels of each token, as VideoMAE predicts them."""

    def __init__(self, config: TransformersConfig, *, normalised: bool) -> None:
        super().__init__()
        self.config, self.normalised = config, normalised

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        """Return the pixel values [B, N, P] in 0..1, or normalised in each token and colour."""
        mean, std = (
            torch.tensor(x, device=pixels_BCTHW.device).view(3, 1, 1, 1)
            for x in (IMAGENET_MEAN, IMAGENET_STD)
        )
        frames = pixels_BCTHW.float() * std + mean
        for axis, size in enumerate((self.config.tubelet_size, *2 * (self.config.patch_size,))):
            frames = frames.unflatten(2 + 2 * axis, (-1, size))  # B C T t H h W w in the end
        values = frames.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4, 6).flatten(1, 3)  # B N thw C
        if self.normalised:
            spread = values.var(2, keepdim=True).sqrt() + 1e-6
            values = (values - values.mean(2, keepdim=True)) / spread
        return values.flatten(2)


class PixelDecoder(nn.Module):
    """VideoMAE's decoder, in the place of a latent predictor."""

    def __init__(self, pretraining: Any) -> None:
        super().__init__()
        self.project: nn.Module = pretraining.encoder_to_decoder
        self.mask_token: Tensor = pretraining.mask_token
        self.decoder: nn.Module = pretraining.decoder
        self.table_1ND: Tensor = pretraining.position_embeddings

    def forward(
        self, context_BKD: Tensor, context_ids: Tensor, target_ids: Tensor, token: int, grid: Grid
    ) -> Tensor:
        """Return the pixel values [B, M, P] of the targets."""
        table = self.table_1ND.to(context_BKD)
        hidden = self.mask_token + table[:, target_ids[0]]
        seen = self.project(context_BKD) + table[:, context_ids[0]]
        x = torch.cat([seen, hidden.expand(len(seen), -1, -1)], 1)
        found: Tensor = self.decoder(x, hidden.shape[1]).logits
        return found


@dataclass(frozen=True)
class ComparedModel:
    """A backbone of transformers with what stands for a predictor and its targets."""

    encoder: SeenTokens
    target_encoder: SeenTokens | PixelTargets
    predictor: LastFrame | PixelDecoder
    mask_token: int = 0

    def adapted(self, config: SurpriseConfig) -> SurpriseConfig:
        """Return the options with tokens of both sides normalised, or no pixels."""
        are_tokens = isinstance(self.predictor, LastFrame)
        return replace(config, normalise_context=are_tokens, normalise_targets=are_tokens)


def load_compared_model(name: str, image_size: int | None = None) -> ComparedModel:
    """Load DINOv2, or VideoMAE with its decoder, by hub name or from a folder.

    Args:
        name: Hub name or folder, without `hf:`.
        image_size: Height and width of the images [px]; None takes the model's own.

    Raises:
        CheckpointError: The model is not found or not supported, or VideoMAE's decoder is missing.
        ConfigError: The image size or the pixel statistics do not suit.
    """
    backbone = load_transformers_encoder(name)
    spec = backbone.observation_spec
    if (spec.pixel_mean, spec.pixel_std) != (IMAGENET_MEAN, IMAGENET_STD):
        raise ConfigError(
            f"{name} normalises pixels by {spec.pixel_mean} and {spec.pixel_std}; surprise takes "
            "models with ImageNet's statistics"
        )
    encoder = SeenTokens(backbone)
    patch = encoder.config.patch_size
    if image_size and image_size % patch:
        raise ConfigError(f"image_size={image_size}; allowed for {name}: a multiple of {patch}")
    if not backbone.is_video:
        return ComparedModel(encoder, encoder, LastFrame())
    if image_size not in (None, spec.image_size[0]):
        raise ConfigError(f"image_size={image_size}; allowed for {name}: {spec.image_size[0]}")
    pretraining = load_videomae_decoder(name)
    targets = PixelTargets(encoder.config, normalised=bool(pretraining.config.norm_pix_loss))
    return ComparedModel(encoder, targets, PixelDecoder(pretraining).eval())
