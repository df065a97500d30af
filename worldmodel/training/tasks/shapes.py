"""Pretrain a small video encoder on made clips of moving shapes, whose labels judge it.

A validation measures what a masked loss hides: the rank of the trained encoder and of its moving
average, how much of the features a patch's mean colour explains, and what linear probes of whole
clips read of shape, direction and speed.

Shapes: B clips, T frames, N tokens, D width, F features of a clip.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.data.clip_source import ClipSource
from worldmodel.data.moving_shapes import ShapeClips
from worldmodel.data.shape_options import LABELS, ShapeClipOptions
from worldmodel.data.stored_shapes import StoredShapes
from worldmodel.errors import ConfigError
from worldmodel.evaluation.feature_health import (
    effective_rank,
    explained_share,
    feature_std,
    linear_probe,
)
from worldmodel.models.frame_encoder import VideoEncoder, normalise
from worldmodel.processes import usable_cores
from worldmodel.training.batches import to_device
from worldmodel.training.config import ShapesPretrainOptions
from worldmodel.training.graphed import GraphedLosses
from worldmodel.training.loop import LossFunction
from worldmodel.training.masked_objective import MaskedObjective
from worldmodel.training.masking import Grid
from worldmodel.training.metrics import Row
from worldmodel.training.shape_objectives import LabelObjective, patch_pixels
from worldmodel.training.sources import Sources
from worldmodel.training.step_masks import draw_masks
from worldmodel.training.tasks.pretrain import VALIDATION_STEP, VideoPretrainTask
from worldmodel.training.verdict import Finding, judge_clip_probes

READ = 128
"""Number of clips that are encoded at once at a validation."""


def open_shapes(options: ShapesPretrainOptions) -> Sources:
    """Open the made training and held-out clips, which share neither textures nor paths."""
    clips, side = options.clips, options.encoder.image_size

    def made(seed: int) -> ShapeClipOptions:
        return ShapeClipOptions(
            num_clips=clips.num_clips, num_frames=clips.num_frames, side=side, seed=seed
        )

    train = made(clips.data_seed)
    source: ClipSource = (
        StoredShapes(train, Path(clips.store), usable_cores()) if clips.store else ShapeClips(train)
    )
    return Sources(source, ShapeClips(made(0)))


def clip_features(tokens_BND: Tensor, tubelets: int) -> Tensor:
    """Summarise a clip's tokens [B, F]: mean, deviation, and change from first to last tubelet."""
    parts = tokens_BND.unflatten(1, (tubelets, -1))
    change = parts[:, -1] - parts[:, 0]
    return torch.cat([tokens_BND.mean(1), tokens_BND.std(1), change.mean(1), change.std(1)], dim=1)


class ShapesValidation:
    """Metrics on held-out clips, with the same clips and masks at every call."""

    def __init__(
        self, sources: Sources, options: ShapesPretrainOptions, grid: Grid, device: torch.device
    ) -> None:
        self.grid = grid
        self.seen = sources.train.batch(np.arange(options.probe_clips))
        self.held_out = sources.held_out.batch(np.arange(options.loop.val_clips))
        masks = draw_masks(options, grid, options.loop.val_clips, VALIDATION_STEP)
        found = {name: torch.from_numpy(values) for name, values in self.held_out.items()}
        self.batch = to_device(found | masks, device)

    @staticmethod
    def _tokens(encoder: VideoEncoder, frames_BTHWC: np.ndarray) -> Tensor:
        clips = torch.from_numpy(frames_BTHWC).split(READ)
        return torch.cat([encoder.encode_clip(part).cpu() for part in clips])

    def _probes(self, seen_BND: Tensor, unseen_BND: Tensor) -> Row:
        """Fit linear probes from whole clips to the classes; return the shares that are right."""
        x, unseen = (clip_features(tokens, self.grid[0]) for tokens in (seen_BND, unseen_BND))
        scale = x.std(0).clamp_min(1e-6)
        row: Row = {}
        for name, classes in LABELS.items():
            y, truth = (torch.from_numpy(data[name]) for data in (self.seen, self.held_out))
            wanted = F.one_hot(y, len(classes)).double()
            found = linear_probe(x / scale, wanted, unseen / scale)
            row[f"probe_{name}"] = float((found.argmax(1) == truth).double().mean())
        return row

    @torch.no_grad()
    def __call__(self, objective: MaskedObjective) -> Row:
        """Measure the loss, that of each position's mean, ranks, the colour's share and probes."""
        objective.eval()
        row: Row = {f"val_{name}": float(v) for name, v in objective(self.batch).items()}
        clip_BCTHW = objective.clip(self.batch["frames"])
        if not isinstance(objective, LabelObjective):
            row["val_mean"] = objective.mean_error(objective.targets(clip_BCTHW), self.batch)
        average, student = objective.averaged.eval(), objective.student
        unseen = self._tokens(average, self.held_out["frames"])
        normed = normalise(unseen)
        c = student.backbone.config
        pixels = patch_pixels(clip_BCTHW.cpu(), c.tubelet_size, c.patch_size)
        row["feature_std"] = feature_std(normed)
        row["effective_rank"] = effective_rank(normed)
        row["effective_rank_student"] = effective_rank(
            normalise(self._tokens(student, self.held_out["frames"]))
        )
        row["colour_share"] = explained_share(pixels.unflatten(2, (3, -1)).mean(3), normed)
        row |= self._probes(self._tokens(average, self.seen["frames"]), unseen)
        objective.train()
        return row


class ShapesPretrainTask(VideoPretrainTask):
    """Pretraining on made clips, by V-JEPA's objective or one to compare with it."""

    read = ("frames", *LABELS, "position")
    options: ShapesPretrainOptions

    @classmethod
    def open(cls, options: ShapesPretrainOptions) -> ShapesPretrainTask:
        """Open the made clips."""
        return cls(options, open_shapes(options))

    def open_validation(self, device: torch.device) -> ShapesValidation:
        """Return the losses, feature health and probes of whole clips."""
        return ShapesValidation(self.sources, self.options, self.grid, device)

    def losses(self, engine: nn.Module, device: torch.device) -> LossFunction:
        """Return the objective, or with `cuda_graph` what records its steps.

        Raises:
            ConfigError: `cuda_graph` is set without a CUDA device, or with several processes.
        """
        if not self.options.cuda_graph:
            return engine
        if device.type != "cuda" or engine is not self.objective:
            raise ConfigError(
                f"cuda_graph=true on {device}: it needs one process on a CUDA device; leave it out"
            )
        return GraphedLosses(self.objective, device)

    def findings(self, row: Row) -> list[Finding]:
        """Return the verdict on prediction, collapse, and what the features tell of motion."""
        chance = {name: 1 / len(classes) for name, classes in LABELS.items()}
        return [*super().findings(row), *judge_clip_probes(row, chance)]
