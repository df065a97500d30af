"""The `pretrain` run: V-JEPA's masked latent prediction on video, no actions and no labels.

An encoder sees the visible patches of a clip; a predictor fills in the hidden ones; the target is
what a moving average of the encoder says of the whole clip, layer-normalised. The encoder that is
written is the moving average, as the published models' `target_encoder`.

An encoder with patch tokens drops hidden tokens before its blocks. One with a convolutional stem
gets pictures whose hidden patches are blanked first: its stem looks over patch borders.

Source: V-JEPA (arXiv 2404.08471), sec. 3; V-JEPA 2 (arXiv 2506.09985), sec. 2.

Shapes: B clips, T frames, N tokens, D width, K context tokens, M target tokens.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_encoder, resolve_device
from worldmodel.errors import ConfigError
from worldmodel.evaluation.feature_health import (
    effective_rank,
    feature_std,
    linear_probe,
    mean_distance,
)
from worldmodel.models.config import EncoderConfig, MaskedPredictorConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.encoder import VisionTransformer, preset
from worldmodel.models.frame_encoder import FrameEncoder, VideoEncoder, normalise
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.training.augmentation import random_colours
from worldmodel.training.loop import LoopConfig, batch_indices, run_loop
from worldmodel.training.losses import prediction_loss
from worldmodel.training.masking import (
    BlockMask,
    Grid,
    TokenIds,
    gather_tokens,
    hide_pixels,
    sample_masks,
    step_generator,
)
from worldmodel.training.schedules import warmup_constant_decay
from worldmodel.training.tasks.joint import Clips, parameter_groups
from worldmodel.training.tasks.post import Prefetcher

log = logging.getLogger(__name__)

COLLAPSED_STD = 0.02
"""Spread of normalised target features under which a warning is written (alive: about 0.5..1)."""
KINDS = ("short", "long")


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(kw_only=True)
class PretrainConfig:
    """Options of `worldmodel pretrain`."""

    recipe: str = _text("", "configs/pretrain/<recipe>.yaml, read before the other options")
    data: str = _text("runs/data/train", "folder of training episodes")
    val: str = _text("runs/data/val", "folder of held-out episodes")
    out: str = _text("runs/pretrain", "folder of checkpoints, metrics and the encoder")
    init: str = _text("", "go on from this encoder (name or file) instead of random weights")
    device: str = _text("auto", "auto, cpu or cuda")
    threads: int = _text(0, "CPU threads (0: torch's choice)")
    seed: int = _text(0, "of weights, data order, masks and augmentation")
    steps: int = _text(3000, "optimiser steps (0: write the untrained encoder)")
    stop_after: int = _text(0, "stop early after this many steps (0: never); schedule unchanged")
    batch_size: int = _text(32, "clips of one step")
    num_frames: int = _text(4, "frames of a clip")
    lr_start: float = _text(1e-4, "learning rate at the first step")
    lr: float = _text(6e-4, "learning rate after the warm-up")
    lr_end: float = _text(1e-6, "learning rate at the last step")
    warmup: int = _text(300, "steps from lr_start to lr")
    decay: int = _text(600, "last steps, from lr to lr_end (0: constant to the end)")
    weight_decay: float = _text(0.04, "AdamW, matrices only")
    beta2: float = _text(0.98, "AdamW")
    clip_norm: float = _text(1.0, "largest gradient norm")
    bf16: bool = _text(True, "autocast")
    momentum: float = _text(0.99925, "of the target's moving average, at the first step")
    momentum_end: float = _text(0.99925, "at the last step; linear between")
    image_size: int = _text(128, "pixels of a side")
    size: str = _text("", "a published size (vit_tiny, vit_small, ...) in place of the sizes below")
    stem: str = _text("conv", "conv: stride-2 convolutions; patch: one strided convolution")
    stem_channels: list[int] = field(
        default_factory=lambda: [16, 48, 96, 128],
        metadata={"help": "stem=conv: output channels of the stride-2 convolutions"},
    )
    patch_size: int = _text(32, "pixels of a side that make one token")
    tubelet_size: int = _text(1, "frames that make one token (stem=conv: 1)")
    encoder_dim: int = _text(128, "width of a token")
    encoder_depth: int = _text(2, "transformer blocks")
    encoder_heads: int = _text(4, "")
    predictor_dim: int = _text(96, "width of the masked predictor")
    predictor_depth: int = _text(3, "")
    predictor_heads: int = _text(3, "")
    short_blocks: int = _text(8, "short-range mask: blocks of a clip")
    short_scale: float = _text(0.15, "short-range mask: share of a frame in one block")
    long_blocks: int = _text(2, "long-range mask: blocks of a clip")
    long_scale: float = _text(0.7, "long-range mask: share of a frame in one block")
    augment: float = _text(0.1, "brightness and colour spread, the same for a whole clip")
    hue_deg: float = _text(0.0, "largest turn of a clip's hues [deg]")
    probe_frames: int = _text(768, "frames the linear probe learns on at a validation")
    val_clips: int = _text(128, "held-out clips of a validation")
    save_every: int = _text(500, "steps between checkpoints")
    log_every: int = _text(50, "steps between rows of metrics.jsonl")
    eval_every: int = _text(500, "steps between validations")
    tensorboard: bool = _text(False, "also write TensorBoard events")

    def mask_kinds(self) -> tuple[BlockMask, BlockMask]:
        """Short-range and long-range masks."""
        return (
            BlockMask(num_blocks=self.short_blocks, scale=self.short_scale),
            BlockMask(num_blocks=self.long_blocks, scale=self.long_scale),
        )


def build_encoder(config: PretrainConfig) -> VisionTransformer:
    """The encoder to train: of a published size, of the sizes given, or a file's.

    Raises:
        ConfigError: stem, tubelet, clip length or picture size do not fit each other.
    """
    if config.init:
        encoder = load_encoder(config.init, "cpu").backbone
        assert isinstance(encoder, VisionTransformer)
        return encoder.train().requires_grad_(True)
    if config.stem not in {"conv", "patch"}:
        raise ConfigError(f"stem={config.stem!r}; allowed: conv, patch")
    if config.size or config.stem == "patch":
        stem: dict[str, Any] = {"stem": "patch"}
    else:
        stem = {"stem": "conv", "stem_channels": tuple(config.stem_channels)}
    if stem["stem"] == "conv" and config.tubelet_size != 1:
        raise ConfigError(
            f"tubelet_size={config.tubelet_size} with stem=conv, which takes every frame by "
            "itself: say tubelet_size=1, or stem=patch"
        )
    shape: dict[str, Any] = {
        "image_size": (config.image_size, config.image_size),
        "num_frames": config.num_frames,
        "patch_size": config.patch_size,
        "tubelet_size": config.tubelet_size,
        "rope": "interleaved",
        **stem,
    }
    if config.size:
        return VisionTransformer(preset(config.size, **shape))
    width: dict[str, Any] = {"embed_dim": config.encoder_dim, "depth": config.encoder_depth}
    return VisionTransformer(EncoderConfig(num_heads=config.encoder_heads, **width, **shape))


def clip_grid(config: PretrainConfig, encoder: EncoderConfig) -> Grid:
    """Tubelets, patch rows and patch columns of a training clip.

    Raises:
        ConfigError: the clip does not divide into them.
    """
    patch, tubelet = encoder.patch_size, encoder.tubelet_size
    if config.num_frames % tubelet or config.image_size % patch or config.image_size == patch:
        raise ConfigError(
            f"num_frames={config.num_frames}, image_size={config.image_size}: masks need a "
            f"multiple of {tubelet} frames and several patches of {patch} px a side"
        )
    return config.num_frames // tubelet, config.image_size // patch, config.image_size // patch


class MaskedObjective(nn.Module):
    """Encoder, its moving average and the masked predictor; forward gives the losses."""

    def __init__(self, encoder: VisionTransformer, grid: Grid, config: PretrainConfig) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        self.student = VideoEncoder.of(encoder, frames_per_token=encoder.config.tubelet_size)
        self.target = copy.deepcopy(encoder).requires_grad_(False)
        width = encoder.config.embed_dim
        self.predictor = MaskedPredictor(
            MaskedPredictorConfig(
                grid=grid,
                encoder_dim=width,
                out_dim=width,
                embed_dim=config.predictor_dim,
                depth=config.predictor_depth,
                num_heads=config.predictor_heads,
                num_mask_tokens=len(KINDS),
                rope="interleaved",
            )
        )

    def clip(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames -> normalised clip [B,3,T,H,W], its colours varied in training."""
        batch, time_ = frames_BTHWC.shape[:2]
        colour = None
        if self.training and (self.config.augment or self.config.hue_deg):
            colour_B33 = random_colours(batch, self.config.augment, self.config.hue_deg)
            colour = colour_B33.to(frames_BTHWC.device).repeat_interleave(time_, 0)
        x = self.student.pixels(frames_BTHWC.flatten(0, 1), colour)
        return x.unflatten(0, (batch, time_)).transpose(1, 2)

    @torch.no_grad()
    def targets(self, clip_BCTHW: Tensor) -> Tensor:
        """Layer-normalised tokens [B,N,D] of the whole clip, by the moving average."""
        return normalise(self.target(clip_BCTHW).float())

    def predict(self, clip_BCTHW: Tensor, ids: TokenIds, kind: int) -> Tensor:
        """Predicted tokens [B,M,D] at the hidden positions, from the visible ones alone."""
        encoder = self.student.backbone
        if encoder.config.stem == "conv":
            patch, tubelet = encoder.config.patch_size, encoder.config.tubelet_size
            clip_BCTHW = hide_pixels(clip_BCTHW, ids.context, patch, tubelet)
        context_BKD = encoder(clip_BCTHW, ids.context)
        out = self.predictor(context_BKD, ids.context, ids.target, kind, grid=self.grid)
        assert isinstance(out, Tensor)
        return out

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean absolute error at hidden tokens: mean over the kinds of masks, and each."""
        clip_BCTHW = self.clip(batch["frames"])
        target_BND = self.targets(clip_BCTHW)
        parts: dict[str, Tensor] = {}
        for kind, name in enumerate(KINDS):
            ids = TokenIds(context=batch[f"context_{name}"], target=batch[f"target_{name}"])
            wanted = gather_tokens(target_BND, ids.target)
            predicted = self.predict(clip_BCTHW, ids, kind).float()
            parts[f"masked_{name}"] = prediction_loss(predicted, wanted)
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Move the target a step of 1 - momentum toward the encoder."""
        pairs = zip(self.target.parameters(), self.student.backbone.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast.detach().to(slow.dtype), 1 - momentum)


def draw_masks(config: PretrainConfig, grid: Grid, count: int, step: int) -> dict[str, Tensor]:
    """Ids of a step's masks of both kinds, a function of seed and step."""
    generator = step_generator(config.seed, step)
    found: dict[str, Tensor] = {}
    for name, kind in zip(KINDS, config.mask_kinds(), strict=True):
        ids = sample_masks(count, grid, kind, generator)
        found |= {f"context_{name}": ids.context, f"target_{name}": ids.target}
    return found


def momentum_at(step: int, config: PretrainConfig) -> float:
    """Momentum of the moving average after a step: linear over the run."""
    done = min(1.0, step / max(1, config.steps - 1))
    return config.momentum + (config.momentum_end - config.momentum) * done


def rate_at(step: int, config: PretrainConfig) -> float:
    """Warm-up, constant, decay over `config.steps`."""
    warmup, decay = min(config.warmup, config.steps), min(config.decay, config.steps)
    return warmup_constant_decay(
        step,
        start=config.lr_start,
        peak=config.lr,
        end=config.lr_end,
        warmup=warmup,
        constant=max(0, config.steps - warmup - decay),
        decay=decay,
    )


def _sample(clips: Clips, count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return clips.batch(np.sort(rng.choice(len(clips), size=min(count, len(clips)), replace=False)))


class Validation:
    """Figures on held-out clips; pictures and masks are the same at every call."""

    def __init__(
        self, clips: Clips, unseen: Clips, config: PretrainConfig, grid: Grid, device: torch.device
    ) -> None:
        held_out = _sample(unseen, config.val_clips, config.seed)
        masks = draw_masks(config, grid, len(held_out["frames"]), step=2**31)
        self.batch = {k: v.to(device) for k, v in masks.items()}
        self.batch["frames"] = torch.from_numpy(held_out["frames"]).to(device)
        self.seen, self.held_out = _sample(clips, config.probe_frames, config.seed + 1), held_out
        self.device = device

    @torch.no_grad()
    def _frames(self, world: FrameEncoder, frames_BTHWC: np.ndarray) -> Tensor:
        first = torch.from_numpy(frames_BTHWC[:, 0])
        parts = [world.encode(part.to(self.device)) for part in first.split(64)]
        return torch.cat(parts).flatten(1).cpu()

    def probes(self, eye: FrameEncoder) -> dict[str, float]:
        """Linear probes of single frames: finger position, and the object's where it is known.

        A sanity figure, never a part of training: nothing flows back from it.
        """
        x, unseen = (self._frames(eye, d["frames"]) for d in (self.seen, self.held_out))
        row: dict[str, float] = {}
        for name, key, span in (("tcp", "states", 3), ("object", "objects", 3)):
            y, truth = (
                torch.from_numpy(d[key][:, 0, :span]).float() for d in (self.seen, self.held_out)
            )
            if not (y.isfinite().all() and truth.isfinite().all()):
                continue
            row[f"probe_{name}_m"] = mean_distance(linear_probe(x, y, unseen), truth)
            row[f"probe_{name}_mean_m"] = mean_distance(y.mean(0, keepdim=True), truth)
        return row

    @torch.no_grad()
    def __call__(self, objective: MaskedObjective) -> dict[str, float]:
        """Losses, what predicting every position's mean would cost, spread, rank and probes."""
        objective.eval()
        losses = objective(self.batch)
        target_BND = objective.targets(objective.clip(self.batch["frames"]))
        row = {f"val_{name}": float(losses[name]) for name in losses}
        row["val_mean"] = float((target_BND - target_BND.mean(0, keepdim=True)).abs().mean())
        row["feature_std"] = feature_std(target_BND)
        row["effective_rank"] = effective_rank(target_BND)
        row |= self.probes(VideoEncoder.of(objective.target).to(self.device))
        objective.train()
        if row["feature_std"] < COLLAPSED_STD:
            log.warning(
                "features have collapsed: their spread over clips is %.4f (alive: above %.2f); "
                "lower lr, or raise momentum",
                row["feature_std"],
                COLLAPSED_STD,
            )
        return row


def pretrain(config: PretrainConfig, clips: Clips, unseen: Clips) -> dict[str, Any]:
    """Train to `config.steps`; writes out/encoder.safetensors, metrics.jsonl and summary.json.

    Raises:
        ConfigError: too few clips for a batch, or sizes that do not fit each other.
        TrainingError: divergence or a full disk.
    """
    if len(clips) < config.batch_size:
        raise ConfigError(
            f"{len(clips)} clips are fewer than batch_size={config.batch_size}: "
            "collect more episodes or lower batch_size"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    device, out = resolve_device(config.device), Path(config.out)
    torch.manual_seed(config.seed)
    encoder = build_encoder(config)
    grid = clip_grid(config, encoder.config)
    objective = MaskedObjective(encoder, grid, config).to(device)
    if device.type == "cpu":
        for part in (objective.student, objective.target, objective.predictor.predictor_blocks):
            optimize_for_cpu(part)
    optimizer = torch.optim.AdamW(
        parameter_groups(objective, config.weight_decay), lr=config.lr, betas=(0.9, config.beta2)
    )
    validation = Validation(clips, unseen, config, grid, device)

    def load(step: int, _: int) -> dict[str, Tensor]:
        chosen = batch_indices(len(clips), config.batch_size, step, config.seed)
        batch = {"frames": torch.from_numpy(clips.batch(chosen)["frames"])}
        batch |= draw_masks(config, grid, len(chosen), step)
        return {name: value.to(device) for name, value in batch.items()}

    def on_log(step: int) -> dict[str, float]:
        row = {"momentum": momentum_at(step, config)}
        if step % config.eval_every and step + 1 != last:
            return row
        row |= validation(objective)
        log.info("step %d: %s", step, {k: round(v, 4) for k, v in row.items()})
        return row

    last = config.stop_after or config.steps
    started = time.perf_counter()
    loop = LoopConfig(
        steps=last,
        seed=config.seed,
        bf16=config.bf16,
        save_every=config.save_every,
        log_every=config.log_every,
        clip_norm=config.clip_norm,
        tensorboard=config.tensorboard,
    )
    row = run_loop(
        model=objective,
        optimizer=optimizer,
        loss_fn=lambda batch, _: objective(batch),
        batches=Prefetcher(load, 1),
        config=loop,
        out=out,
        on_log=on_log,
        learning_rate=lambda step: rate_at(step, config),
        after_step=lambda step: objective.update_target(momentum_at(step, config)),
    )
    model = VideoEncoder.of(objective.target)
    save(out / "encoder.safetensors", model, notes={"pretraining": "masked", "steps": str(last)})
    summary = {
        "last": row,
        "clips": len(clips),
        "parameters": sum(p.numel() for p in objective.target.parameters()),
        "predictor_parameters": sum(p.numel() for p in objective.predictor.parameters()),
        "minutes": (time.perf_counter() - started) / 60,
        "simulator_label": "no",
        "options": vars(config),
        "model": to_dict(model.config),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    return summary
