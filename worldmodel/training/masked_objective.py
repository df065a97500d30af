"""Masked latent prediction: encoder, its moving average, masked predictor and masks.

An encoder with patch tokens drops hidden tokens before its blocks. For a convolutional stem, which
sees beyond patch borders, hidden patches are blanked in the images first.

Source: V-JEPA (arXiv 2404.08471), sec. 3; V-JEPA 2 (arXiv 2506.09985), sec. 2.

Shapes: B clips, T frames, N tokens, D width, K context tokens, M target tokens.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TypeVar

import torch
from torch import Tensor, nn

from worldmodel.checkpoints.assemble import find_source
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig, MaskedPredictorConfig
from worldmodel.models.encoder import VisionTransformer, preset
from worldmodel.models.frame_encoder import VideoEncoder, normalise
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.training.augmentation import random_colours
from worldmodel.training.batches import Batch, sent
from worldmodel.training.clip_options import ClipConfig
from worldmodel.training.config import VideoPretrainOptions
from worldmodel.training.dense_losses import (
    last_blocks,
    level_blocks,
    normalise_levels,
    visible_error,
)
from worldmodel.training.losses import prediction_loss, sigreg_loss
from worldmodel.training.masking import Grid, TokenIds, gather_tokens, hide_pixels
from worldmodel.training.step_masks import KINDS

Network = TypeVar("Network", bound=nn.Module)


def build_encoder(options: VideoPretrainOptions) -> VisionTransformer:
    """Build the encoder to train, from a published size, given sizes or a file.

    Raises:
        ConfigError: Stem, tubelet, clip length and image size are inconsistent.
    """
    sizes, levels = options.encoder, options.dense.levels
    if levels > 1 and (sizes.init or sizes.predictor_init):
        raise ConfigError(
            f"levels={levels} with init= or predictor_init=: several levels need new networks, so "
            "leave them out or set levels=1"
        )
    if sizes.init:
        start = load_encoder(sizes.init, "cpu")
        if not isinstance(start, VideoEncoder):
            raise ConfigError(f"init={sizes.init!r} is not a V-JEPA encoder, which masks can train")
        if start.backbone.config.position == "sincos_2d":
            raise ConfigError(f"init={sizes.init!r} is an encoder of images; clips need V-JEPA's")
        return continue_training(start.backbone)
    is_conv = sizes.stem == "conv" and not sizes.size
    if is_conv and sizes.tubelet_size != 1:
        raise ConfigError(
            f"tubelet_size={sizes.tubelet_size} with stem=conv, which takes every frame by "
            "itself: set tubelet_size=1, or stem=patch"
        )
    config = EncoderConfig(
        image_size=(sizes.image_size, sizes.image_size),
        num_frames=options.clips.num_frames,
        patch_size=sizes.patch_size,
        tubelet_size=sizes.tubelet_size,
        embed_dim=sizes.encoder_dim,
        depth=sizes.encoder_depth,
        num_heads=sizes.encoder_heads,
        rope="interleaved",
        stem="conv" if is_conv else "patch",
        stem_channels=sizes.stem_channels if is_conv else (),
    )
    if sizes.size:
        named = preset(sizes.size)
        names = ("embed_dim", "depth", "num_heads", "mlp_ratio")
        config = dataclasses.replace(config, **{name: getattr(named, name) for name in names})
    norms = level_blocks(levels, config.depth)
    return VisionTransformer(dataclasses.replace(config, norm_blocks=norms))


def continue_training(model: Network) -> Network:
    """Let all weights of a loaded network learn, except a position table."""
    model.train().requires_grad_(True)
    for name, weight in model.named_parameters():
        if name.endswith("pos_embed"):
            weight.requires_grad_(False)
    return model


def build_predictor(
    options: VideoPretrainOptions, encoder: EncoderConfig, grid: Grid, out_dim: int
) -> MaskedPredictor:
    """Build the masked predictor of `out_dim` values, from the given sizes or a published file.

    Raises:
        ConfigError: The file's predictor does not fit the encoder or the clips.
    """
    sizes, file = options.predictor, options.encoder.predictor_init
    if not file:
        return MaskedPredictor(
            MaskedPredictorConfig(
                grid=grid,
                encoder_dim=options.dense.levels * encoder.embed_dim,
                out_dim=out_dim,
                predict_context=options.dense.context_loss > 0,
                embed_dim=sizes.predictor_dim,
                depth=sizes.predictor_depth,
                num_heads=sizes.predictor_heads,
                num_mask_tokens=len(KINDS),
                rope="interleaved",
            )
        )
    side, frames = options.encoder.image_size, options.clips.num_frames
    path, _ = find_source(file)
    predictor = load_published(path, "predictor", image_size=side, num_frames=frames)
    if not isinstance(predictor, MaskedPredictor) or predictor.config.predict_context:
        raise ConfigError(f"predictor_init={file!r} is not a masked predictor of V-JEPA 1 or 2")
    c = predictor.config
    wanted = (encoder.embed_dim, out_dim)
    if (c.encoder_dim, c.out_dim) != wanted or (c.position != "rope" and c.grid != grid):
        raise ConfigError(
            f"predictor_init={file!r} takes tokens of width {c.encoder_dim} on a grid {c.grid}; "
            f"the encoder's have width {encoder.embed_dim}, the clips' grid is {grid}: say init= "
            "with the same file, and its image_size and num_frames"
        )
    continue_training(predictor)
    used = {predictor.mask_token_of(kind) for kind in range(len(KINDS))}
    for i, token in enumerate(predictor.mask_tokens):
        token.requires_grad_(i in used)
    return predictor


def clip_grid(options: VideoPretrainOptions, encoder: EncoderConfig) -> Grid:
    """Return the tubelets, patch rows and patch columns of a training clip.

    Raises:
        ConfigError: The clip is not divisible into them.
    """
    patch, tubelet = encoder.patch_size, encoder.tubelet_size
    frames, side = options.clips.num_frames, options.encoder.image_size
    if frames % tubelet or side % patch or side == patch:
        raise ConfigError(
            f"num_frames={frames}, image_size={side}: masks need a multiple of {tubelet} frames "
            f"and several patches of {patch} px a side"
        )
    return frames // tubelet, side // patch, side // patch


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, momentum: float) -> None:
    """Move the weights of an average toward those of a model by a fraction of 1 - momentum."""
    pairs = zip(average.parameters(), model.parameters(), strict=True)
    slow, fast = zip(*((old, new.to(old.dtype)) for old, new in pairs), strict=True)
    torch._foreach_lerp_(slow, fast, 1 - momentum)


class MaskedObjective(nn.Module):
    """Encoder, its moving average and the masked predictor; `forward` returns the losses."""

    def __init__(
        self, encoder: VisionTransformer, grid: Grid, options: VideoPretrainOptions
    ) -> None:
        super().__init__()
        self.options, self.grid = options, grid
        self.student = self._as_encoder(encoder)
        self.target = copy.deepcopy(encoder).requires_grad_(False)
        self.levels = options.dense.levels
        self.target_blocks = last_blocks(options.dense.target_blocks, encoder.config.depth)
        self.context_weight = 0.0
        """Weight of the error at visible tokens, which the task sets before each step."""
        self.predictor = build_predictor(options, encoder.config, grid, self.out_dim)

    @property
    def out_dim(self) -> int:
        """Number of predicted values per token: the encoder's width, for each level."""
        return self.options.dense.levels * self.target.config.embed_dim

    @property
    def averaged(self) -> VideoEncoder:
        """Return the moving average as a frame encoder that shares the weights."""
        return self._as_encoder(self.target).to(self.student.device)

    def _as_encoder(self, backbone: VisionTransformer) -> VideoEncoder:
        """Wrap an encoder with the input conventions of the clips."""
        clips, encoder = self.options.clips, VideoEncoder.of(backbone)
        if not isinstance(clips, ClipConfig):
            return encoder
        spec = encoder.observation_spec
        return encoder.set_observation(
            dataclasses.replace(spec, transform=clips.transform, cameras=(clips.camera,))
        )

    def clip(self, frames_BTHWC: Tensor) -> Tensor:
        """Normalise uint8 frames to a clip [B,3,T,H,W], with colour augmentation in training."""
        batch, time = frames_BTHWC.shape[:2]
        colour, c = None, self.options.augmentation
        if self.training and (c.augment or c.hue_deg):
            colour_B33 = random_colours(batch, c.augment, c.hue_deg)
            colour = sent(colour_B33, frames_BTHWC.device).repeat_interleave(time, 0)
        x = self.student.pixels(frames_BTHWC.flatten(0, 1), colour)
        return x.unflatten(0, (batch, time)).transpose(1, 2)

    @torch.no_grad()
    def targets(self, clip_BCTHW: Tensor) -> Tensor:
        """Encode the whole clip with the moving average to layer-normalised tokens [B,N,D].

        Several levels are normalised one by one and joined along the channels, or averaged.
        """
        if self.target_blocks:
            tokens = self.target.encode_levels(clip_BCTHW, self.target_blocks)
            each = tokens.float().unflatten(1, (len(self.target_blocks), -1))
            return normalise(normalise(each).mean(1))
        tokens = self.target(clip_BCTHW, all_levels=self.levels > 1)
        return normalise_levels(tokens.float(), self.levels)

    def encode_visible(self, clip_BCTHW: Tensor, ids: TokenIds) -> Tensor:
        """Encode the visible tokens [B,K,D] alone."""
        encoder = self.student.backbone
        if encoder.config.stem == "conv":
            patch, tubelet = encoder.config.patch_size, encoder.config.tubelet_size
            clip_BCTHW = hide_pixels(clip_BCTHW, ids.context, patch, tubelet)
        return encoder(clip_BCTHW, ids.context, all_levels=self.levels > 1)

    def predict(
        self, context_BKD: Tensor, ids: TokenIds, kind: int
    ) -> tuple[Tensor, Tensor | None]:
        """Predict tokens [B,M,D] at the hidden positions from the encoded visible ones.

        With a loss on visible tokens, their predictions [B,K,D] come second.
        """
        token = self.predictor.mask_token_of(kind)
        out = self.predictor(context_BKD, ids.context, ids.target, token, grid=self.grid)
        return (out, None) if isinstance(out, Tensor) else out

    def error(self, predicted_BMD: Tensor, hidden_BMD: Tensor) -> Tensor:
        """Return the mean absolute error of predicted tokens."""
        return prediction_loss(predicted_BMD, hidden_BMD)

    @torch.no_grad()
    def mean_error(self, target_BND: Tensor, batch: Batch) -> float:
        """Return the error of each position's mean over the clips, at the same hidden tokens."""
        mean_BND = target_BND.mean(0, keepdim=True).expand_as(target_BND)
        found = []
        for ids in (batch[name] for name in batch if name.startswith("target_")):
            found.append(self.error(gather_tokens(mean_BND, ids), gather_tokens(target_BND, ids)))
        return float(torch.stack(found).mean())

    def forward(self, batch: Batch) -> Batch:
        """Return the errors at hidden and at visible tokens per mask kind in the batch.

        `loss` is the mean of the hidden tokens' errors, in training with the weighted means of the
        visible tokens' errors and of SIGReg added.
        """
        clip_BCTHW = self.clip(batch["frames"])
        target_BND = self.targets(clip_BCTHW)
        parts: Batch = {}
        visible: Batch = {}
        spread = list[Tensor]()
        for kind, name in enumerate(KINDS):
            if f"context_{name}" not in batch:
                continue
            ids = TokenIds(context=batch[f"context_{name}"], target=batch[f"target_{name}"])
            hidden = gather_tokens(target_BND, ids.target)
            encoded_BKD = self.encode_visible(clip_BCTHW, ids)
            predicted, context = self.predict(encoded_BKD, ids, kind)
            if self.options.dense.sigreg and self.training:
                spread.append(sigreg_loss(encoded_BKD.flatten(0, 1)))
            parts[f"masked_{name}"] = self.error(predicted.float(), hidden)
            if context is not None:
                visible[f"visible_{name}"] = visible_error(
                    context.float(),
                    gather_tokens(target_BND, ids.context),
                    ids,
                    self.grid,
                    by_distance=self.options.dense.context_distance,
                )
        loss = torch.stack(list(parts.values())).mean()
        if visible and self.training:
            loss = loss + self.context_weight * torch.stack(list(visible.values())).mean()
        if spread:
            loss = loss + self.options.dense.sigreg * torch.stack(spread).mean()
        return {"loss": loss, **parts, **visible}

    def update_target(self, momentum: float) -> None:
        """Move the target toward the encoder by a fraction of 1 - momentum."""
        move_average(self.target, self.student.backbone, momentum)
