"""Measure surprise: the deviation of a video from the masked predictor's expectation.

A window slides over the video. The encoder sees the first frames of the window (the context), the
predictor predicts the tokens of the remaining frames, and the surprise is their mean absolute
difference from the target encoder's tokens for the whole window.

Source: Garrido et al., "Intuitive physics understanding emerges from self-supervised pretraining on
natural videos" (arXiv 2502.11831), and IntPhys 2 (arXiv 2506.09849).

Shapes: B windows, T frames, H W pixels, K context tokens, M target tokens, N = K + M, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.checked import Checked, between
from worldmodel.checkpoints.masked_networks import FILE, Pretrained, is_own
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.energy import token_distance
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.specs import IMAGENET_MEAN, IMAGENET_STD

Grid = tuple[int, int, int]
RELEASED_PATCHES = 14 * 14
"""Number of patches per tubelet that the released evaluation assumes at every image size."""


@dataclass(frozen=True, kw_only=True)
class SurpriseConfig(Checked):
    """Windows, contexts and normalisation."""

    num_frames: int = field(default=16, metadata=between(2, 4096))
    """Number of frames per window."""
    contexts: tuple[int, ...] = field(default=(2, 4, 6, 8, 10), metadata=between(1, 4096))
    """Numbers of context frames; each must be below `num_frames`."""
    stride: int = field(default=2, metadata=between(1, 4096))
    """Number of frames between the starts of consecutive windows."""
    normalise_context: bool = False
    """Whether to apply LayerNorm without weights to the context tokens before the predictor."""
    normalise_targets: bool = True
    """Whether to apply LayerNorm without weights to the target tokens."""
    growing_start: bool = False
    """Whether to prepend the first window's surprises for all shorter contexts, so that the video's
    first frames count too (IntPhys 2)."""
    as_released: bool = False
    """Whether to assume 14 x 14 patches at every image size, reproducing an error of the released
    evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.contexts or max(self.contexts) >= self.num_frames:
            raise ConfigError(
                f"contexts={self.contexts}; allowed: one or more numbers below "
                f"num_frames={self.num_frames}"
            )


class SurpriseNetworks(Protocol):
    """Networks whose surprise can be measured."""

    @property
    def encoder(self) -> Any:
        """Network that maps pixels and context ids to context tokens."""

    @property
    def target_encoder(self) -> Any:
        """Network that maps the pixels of a whole window to the targets of all its tokens."""

    @property
    def predictor(self) -> Any:
        """Network that maps context tokens, context ids and target ids to predicted targets."""

    @property
    def mask_token(self) -> int:
        """Index of the predictor's mask token."""


@dataclass(frozen=True)
class SurpriseModel:
    """The three networks of a pretraining checkpoint."""

    encoder: VisionTransformer
    """The online encoder, which sees the context."""
    target_encoder: VisionTransformer
    """The moving average, which sees the whole window."""
    predictor: MaskedPredictor
    mask_token: int = 0
    """Index of the predictor's mask token; V-JEPA 2 trained only token 0."""

    def __post_init__(self) -> None:
        """Check that the widths of the networks match.

        Raises:
            ConfigError: The predictor is for other encoders, or needs several levels.
        """
        sizes = self.predictor.config
        seen, wanted = self.encoder.config.embed_dim, self.target_encoder.config.embed_dim
        if sizes.predict_context or (sizes.encoder_dim, sizes.out_dim) != (seen, wanted):
            raise ConfigError(
                f"the predictor maps width {sizes.encoder_dim} to {sizes.out_dim}, the encoders "
                f"have {seen} and {wanted}: use the three parts of one V-JEPA 1 or V-JEPA 2 file"
            )


@dataclass(frozen=True)
class Prediction:
    """Predicted and target tokens of a batch of windows."""

    context_ids: Tensor
    """long [B, K]"""
    target_ids: Tensor
    """long [B, M]"""
    context: Tensor
    """Context tokens [B, K, D]."""
    targets: Tensor
    """Target tokens [B, M, D]."""
    predicted: Tensor
    """Predicted tokens [B, M, D]."""

    @property
    def surprise(self) -> Tensor:
        """Mean absolute difference [B] over target tokens and channels, in float32."""
        return token_distance(self.predicted.float(), self.targets.float())


def load_surprise_model(
    path: str | Path,
    *,
    num_heads: int | None = None,
    predictor_heads: int | None = None,
    image_size: int | tuple[int, int] = 224,
    num_frames: int = 16,
    mask_token: int = 0,
) -> SurpriseModel:
    """Load encoder, target encoder and predictor of a pretraining.

    Args:
        path: Published file with all three parts, or the folder or file of an own run, which knows
            its sizes.
        num_heads: Attention heads of the encoders; None takes the published number.
        predictor_heads: Attention heads of the predictor; None takes the published number.
        image_size: Side, or height and width, of the images [px].
        num_frames: Number of frames per window.
        mask_token: Index of the predictor's mask token.

    Raises:
        CheckpointError: The file is damaged or lacks a part.
        ConfigError: The parts do not fit together, or a number of heads is unknown.
    """
    if is_own(Path(path)):
        if num_heads or predictor_heads:
            raise ConfigError(
                f"num_heads={num_heads}, predictor_heads={predictor_heads}: {path} is of an own "
                "run, which knows its sizes: leave them out"
            )
        own = Path(path) / FILE if Path(path).is_dir() else Path(path)
        found = Pretrained.load(own)
        return SurpriseModel(found.encoder, found.target_encoder, found.predictor, mask_token)
    load = partial(load_published, path, image_size=image_size, num_frames=num_frames)
    encoder = load("encoder", num_heads=num_heads)
    target_encoder = load("target_encoder", num_heads=num_heads)
    predictor = load("predictor", num_heads=predictor_heads)
    if not isinstance(predictor, MaskedPredictor):
        raise ConfigError(f"{path} has an action-conditioned predictor; needed: a masked one")
    assert isinstance(encoder, VisionTransformer)
    assert isinstance(target_encoder, VisionTransformer)
    return SurpriseModel(encoder, target_encoder, predictor, mask_token)


def windows_of(video_THWC: Tensor, num_frames: int, stride: int) -> Tensor:
    """Return the windows [B, 3, num_frames, H, W] of a uint8 RGB video, as a view.

    Raises:
        ShapeError: The video has another layout or dtype, or is shorter than a window.
    """
    if video_THWC.ndim != 4 or video_THWC.shape[3] != 3 or video_THWC.dtype != torch.uint8:
        raise ShapeError(
            f"video is {video_THWC.dtype} {tuple(video_THWC.shape)}; use uint8 [T, H, W, 3]"
        )
    if len(video_THWC) < num_frames:
        raise ShapeError(
            f"video has {len(video_THWC)} frames, a window {num_frames}: use a smaller frame step "
            "or num_frames"
        )
    return video_THWC.unfold(0, num_frames, stride).permute(0, 3, 4, 1, 2)


def normalise_pixels(clips_BCTHW: Tensor, like: Tensor) -> Tensor:
    """Scale uint8 clips to 0..1 and apply the ImageNet statistics in float32.

    The result has the device and data type of `like`.
    """
    mean, std = (
        torch.tensor(x, device=like.device).view(3, 1, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return ((clips_BCTHW.to(like.device).float() / 255.0 - mean) / std).to(like.dtype)


def split_ids(
    context: int, grid: Grid, tubelet: int, *, as_released: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the token ids [K] of the first `context` frames and [M] of the rest of the window.

    Raises:
        ConfigError: The context is not a whole number of tubelets, or the released 14 x 14 patches
            do not fit into the grid.
    """
    if context % tubelet:
        raise ConfigError(f"contexts: {context} must be a multiple of {tubelet} frames")
    patches = RELEASED_PATCHES if as_released else grid[1] * grid[2]
    if patches > grid[1] * grid[2]:
        raise ConfigError(
            f"as_released=True needs 14 x 14 patches, the grid has {grid[1]} x {grid[2]}: use "
            "images of 224 px or more"
        )
    ids = torch.arange(grid[0] * patches)
    return ids[: context // tubelet * patches], ids[context // tubelet * patches :]


def _layer_norm(tokens_BND: Tensor) -> Tensor:
    return F.layer_norm(tokens_BND, tokens_BND.shape[-1:])


def predict_rest(
    model: SurpriseNetworks,
    pixels_BCTHW: Tensor,
    tokens_BND: Tensor,
    context: int,
    config: SurpriseConfig,
) -> Prediction:
    """Predict the tokens after the first `context` frames of windows.

    Args:
        model: The three networks.
        pixels_BCTHW: Normalised windows.
        tokens_BND: The target encoder's tokens of these windows.
        context: Number of frames that the encoder sees.
        config: What is normalised.
    """
    sizes = model.encoder.config
    time, height, width = pixels_BCTHW.shape[2:]
    grid = (time // sizes.tubelet_size, height // sizes.patch_size, width // sizes.patch_size)
    ids = split_ids(context, grid, sizes.tubelet_size, as_released=config.as_released)
    context_ids, target_ids = (i.to(pixels_BCTHW.device).expand(len(pixels_BCTHW), -1) for i in ids)
    seen = model.encoder(pixels_BCTHW, context_ids)
    given = _layer_norm(seen) if config.normalise_context else seen
    predicted = model.predictor(given, context_ids, target_ids, model.mask_token, grid=grid)
    targets = tokens_BND[:, target_ids[0]]  # every window has the same ids
    return Prediction(context_ids, target_ids, seen, targets, predicted)


@torch.no_grad()
def video_surprises(
    model: SurpriseNetworks, video_THWC: Tensor, config: SurpriseConfig, batch_size: int = 8
) -> list[Tensor]:
    """Measure the surprise of every window with every context.

    Args:
        model: The three networks, in eval mode.
        video_THWC: uint8 RGB video at the model's image size, already thinned to the wanted rate.
        config: Windows and contexts.
        batch_size: Windows that go through the networks together.

    Returns:
        Surprises [number of windows] for each context, in the order of `config.contexts`; with
        `growing_start` the surprises of shorter contexts on the first window come first.

    Raises:
        ShapeError: The video is shorter than a window, or its size does not fit the patches.
        ConfigError: A context is not a whole number of tubelets.
    """
    tubelet = model.encoder.config.tubelet_size
    found: list[list[Tensor]] = [[] for _ in config.contexts]
    like = next(model.encoder.parameters())
    for i, chunk in enumerate(
        windows_of(video_THWC, config.num_frames, config.stride).split(batch_size)
    ):
        pixels = normalise_pixels(chunk, like)
        tokens = model.target_encoder(pixels).float()
        tokens = _layer_norm(tokens) if config.normalise_targets else tokens
        if config.growing_start and i == 0:
            first = (pixels[:1], tokens[:1])
            for row, context in zip(found, config.contexts, strict=True):
                shorter = range(tubelet, context, tubelet)
                row += [predict_rest(model, *first, c, config).surprise for c in shorter]
        for row, context in zip(found, config.contexts, strict=True):
            row.append(predict_rest(model, pixels, tokens, context, config).surprise)
    return [torch.cat(row).float().cpu() for row in found]
