"""Pretrain an encoder by V-JEPA's masked latent prediction on unlabelled video.

An encoder sees the visible patches of a clip, and a predictor fills in the hidden ones; the target
is the layer-normalised output of the encoder's moving average for the whole clip. The exported
encoder is the moving average, like the published `target_encoder`.

Shapes: B clips, T frames, N tokens, D width.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.masked_networks import FILE, Pretrained
from worldmodel.data.clip_source import ClipSource
from worldmodel.evaluation.feature_health import (
    effective_rank,
    feature_std,
    linear_probe,
    mean_distance,
)
from worldmodel.models.config_dict import to_dict
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder, normalise
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.training.batches import Batch, to_device
from worldmodel.training.config import PretrainOptions, ShapesPretrainOptions, VideoPretrainOptions
from worldmodel.training.dense_losses import context_weight_at
from worldmodel.training.distributed import Ranks
from worldmodel.training.masked_objective import MaskedObjective, build_encoder, clip_grid
from worldmodel.training.masking import Grid
from worldmodel.training.metrics import Row
from worldmodel.training.schedules import rate_at
from worldmodel.training.shape_objectives import OBJECTIVES
from worldmodel.training.sources import Sources, choose_clips, open_memory
from worldmodel.training.step_masks import draw_masks, kinds_of_step
from worldmodel.training.task import Task, part_of
from worldmodel.training.verdict import Finding, judge_pretraining

log = logging.getLogger(__name__)

COLLAPSED_STD = 0.02
"""Deviation of normalised target features below which they count as collapsed (healthy: 0.5 to
1)."""
VALIDATION_STEP = 2**31
"""Step whose masks are used in validations; beyond any run's length."""


def momentum_at(step: int, options: VideoPretrainOptions) -> float:
    """Return the momentum of the moving average after a step, linear over the run."""
    done = min(1.0, step / max(1, options.loop.steps - 1))
    start, end = options.target.momentum, options.target.momentum_end
    return start + (end - start) * done


def _sample(clips: ClipSource, count: int, seed: int) -> dict[str, np.ndarray]:
    return clips.batch(np.sort(choose_clips(clips, count, seed)))


class Validation:
    """Metrics on held-out clips, with the same frames and masks at every call."""

    def __init__(
        self, sources: Sources, options: PretrainOptions, grid: Grid, device: torch.device
    ) -> None:
        seed = options.run.seed
        self.held_out = _sample(sources.held_out, options.loop.val_clips, seed)
        self.seen = _sample(sources.train, options.probe_frames, seed + 1)
        masks = draw_masks(options, grid, len(self.held_out["frames"]), VALIDATION_STEP)
        self.batch = {k: v.to(device) for k, v in masks.items()}
        self.batch["frames"] = torch.from_numpy(self.held_out["frames"]).to(device)

    @staticmethod
    def _features(encoder: VideoEncoder, frames_BTHWC: np.ndarray) -> Tensor:
        first = torch.from_numpy(frames_BTHWC[:, 0])
        parts = [encoder.encode(part) for part in first.split(64)]
        return torch.cat(parts).flatten(1).cpu()

    def _clip_tokens(self, encoder: VideoEncoder) -> Tensor:
        """Return the normalised tokens [B, N, D] of the held-out clips."""
        clips = torch.from_numpy(self.held_out["frames"]).split(64)
        return torch.cat([normalise(encoder.encode_clip(part)).cpu() for part in clips])

    def probes(self, encoder: VideoEncoder) -> Row:
        """Fit linear probes from single frames to finger and object positions.

        They are a sanity check and contribute no gradient to training.
        """
        x, unseen = (self._features(encoder, d["frames"]) for d in (self.seen, self.held_out))
        row: Row = {}
        for name, key in (("tcp", "states"), ("object", "objects")):
            if key not in self.seen:
                continue
            y, truth = (
                torch.from_numpy(d[key][:, 0, :3]).float() for d in (self.seen, self.held_out)
            )
            if not (y.isfinite().all() and truth.isfinite().all()):
                continue
            row[f"probe_{name}_m"] = mean_distance(linear_probe(x, y, unseen), truth)
            row[f"probe_{name}_mean_m"] = mean_distance(y.mean(0, keepdim=True), truth)
        return row

    @torch.no_grad()
    def __call__(self, objective: MaskedObjective) -> Row:
        """Measure losses, the per-position mean's, feature spread, ranks and probes."""
        objective.eval()
        losses = objective(self.batch)
        target_BND = objective.targets(objective.clip(self.batch["frames"]))
        row = {f"val_{name}": float(losses[name]) for name in losses}
        row["val_mean"] = objective.mean_error(target_BND, self.batch)
        average = objective.averaged
        normed_BND = self._clip_tokens(average)
        row["feature_std"] = feature_std(normed_BND)
        row["effective_rank"] = effective_rank(normed_BND)
        row["effective_rank_student"] = effective_rank(self._clip_tokens(objective.student))
        row |= self.probes(average)
        objective.train()
        if row["feature_std"] < COLLAPSED_STD:
            log.warning(
                "features have collapsed: their spread over clips is %.4f (healthy: above %.2f); "
                "lower lr, or raise momentum",
                row["feature_std"],
                COLLAPSED_STD,
            )
        return row


class VideoPretrainTask(Task):
    """Trains a video encoder by masked prediction and exports its moving average."""

    file_name = "encoder.safetensors"
    read: Sequence[str] = ("frames",)
    """Arrays of a clip that the objective takes."""
    options: PretrainOptions | ShapesPretrainOptions
    objective: MaskedObjective

    def __init__(self, options: PretrainOptions | ShapesPretrainOptions, sources: Sources) -> None:
        """Prepare a run on clips with frames at the encoder's image size."""
        super().__init__(options, sources)
        self.drawn: tuple[int, Batch] = (-1, {})

    def open_objective(self, encoder: VisionTransformer) -> MaskedObjective:
        """Wrap the encoder with what the option `objective` asks for."""
        return OBJECTIVES[self.options.objective](encoder, self.grid, self.options)

    @abstractmethod
    def open_validation(self, device: torch.device) -> Callable[[MaskedObjective], Row]:
        """Return what measures the objective on held-out clips."""

    def build(self, device: torch.device) -> nn.Module:
        """Build encoder, moving average and masked predictor."""
        self.device = device
        encoder = build_encoder(self.options)
        self.grid = clip_grid(self.options, encoder.config)
        self.objective = self.open_objective(encoder).to(device)
        self.validation = self.open_validation(device)
        return self.objective

    def blocks(self) -> Iterable[nn.Module]:
        """Return the transformer blocks of encoder, moving average and predictor."""
        objective = self.objective
        encoders = (objective.student.backbone, objective.target)
        found = [block for encoder in encoders for block in encoder.blocks]
        return [*found, *objective.predictor.predictor_blocks]

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a warm-up, constant and decay."""
        return rate_at(step, self.options)

    def load(self, step: int, chosen: np.ndarray, part: slice) -> Batch:
        """Read clips from memory, and draw the whole batch's masks so that ranks agree."""
        if self.drawn[0] != step:
            names = kinds_of_step(self.options, step)
            self.drawn = (step, draw_masks(self.options, self.grid, len(chosen), step, names))
        clips = self.sources.train.batch(chosen[part])
        batch = {name: torch.from_numpy(clips[name]) for name in self.read}
        batch |= {name: ids[part] for name, ids in self.drawn[1].items()}
        return to_device(batch, self.device)

    def figures(self, step: int) -> Row:
        """Return the momentum of the moving average."""
        return {"momentum": momentum_at(step, self.options)}

    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Set the weight of the visible tokens' error."""
        self.objective.context_weight = context_weight_at(step, self.options.dense)

    def after_step(self, step: int) -> None:
        """Update the moving average."""
        self.objective.update_target(momentum_at(step, self.options))

    def validate(self) -> Row:
        """Measure masked losses, feature spread and rank, and linear probes."""
        return self.validation(self.objective)

    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write the moving average as an encoder."""
        with torch.random.fork_rng(devices=[]):
            encoder = VideoEncoder(self.objective.student.config)
        encoder.backbone.load_state_dict(part_of(weights, "target"))
        notes = {"pretraining": "masked", "steps": str(self.options.loop.last_step)}
        save(path, encoder, notes=notes)
        self.export_predictor(path.parent / FILE, weights)
        predictor = part_of(weights, "predictor").values()
        return {
            "parameters": sum(p.numel() for p in encoder.parameters()),
            "predictor_parameters": sum(p.numel() for p in predictor),
            "simulator_label": "no",
            "model": to_dict(encoder.config),
        }

    def export_predictor(self, path: Path, weights: dict[str, Tensor]) -> None:
        """Write encoder, moving average and predictor, which `worldmodel surprise` takes.

        The predictor of visible tokens is left out. Networks of several levels are not written, nor
        a predictor of pixels or labels, which measures no surprise.
        """
        objective = self.objective
        if objective.levels > 1 or self.options.objective != "latent":
            return
        sizes = dataclasses.replace(objective.predictor.config, predict_context=False)
        with torch.random.fork_rng(devices=[]):
            found = Pretrained(
                VisionTransformer(objective.target.config),
                VisionTransformer(objective.target.config),
                MaskedPredictor(sizes),
            )
        found.encoder.load_state_dict(part_of(part_of(weights, "student"), "backbone"))
        found.target_encoder.load_state_dict(part_of(weights, "target"))
        predictor = part_of(weights, "predictor")
        hidden = {k: v for k, v in predictor.items() if "proj_context" not in k}
        found.predictor.load_state_dict(hidden)
        found.save(path)

    def findings(self, row: Row) -> list[Finding]:
        """Return the verdict on masked prediction and feature collapse."""
        return judge_pretraining(row, COLLAPSED_STD)


class PretrainTask(VideoPretrainTask):
    """Pretraining on clips of recorded episodes."""

    options: PretrainOptions

    @classmethod
    def open(cls, options: PretrainOptions, ranks: Ranks) -> PretrainTask:
        """Open the clips selected by the options.

        Raises:
            DataError: There are no usable episodes.
        """
        size = options.encoder.image_size
        return cls(options, Sources(*open_memory(options.run, options.clips, size, ranks)))

    def open_validation(self, device: torch.device) -> Validation:
        """Return the losses, feature health and probes of single frames."""
        return Validation(self.sources, self.options, self.grid, device)
