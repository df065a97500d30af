"""Pretrain an image encoder by I-JEPA's masked latent prediction.

The exported encoder is the moving average, like the published `target_encoder`, which the paper
evaluates.

Source: I-JEPA (arXiv 2301.08243).

Shapes: B images, N tokens, D width, G target blocks, K context tokens, M tokens of a block.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.assemble import find_source
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.checkpoints.published.sizes import IMAGE_HEADS
from worldmodel.data.image_folder import ImageFolder, ImageOptions
from worldmodel.errors import ConfigError, DataError
from worldmodel.evaluation.feature_health import effective_rank, feature_std
from worldmodel.models.config import EncoderConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.encoder import VisionTransformer, preset
from worldmodel.models.frame_encoder import VideoEncoder, normalise
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.training.batches import Batch, to_device
from worldmodel.training.config import ImagePretrainOptions
from worldmodel.training.distributed import Ranks
from worldmodel.training.image_masking import ImageIds, sample_image_masks
from worldmodel.training.image_objective import ImageObjective, image_predictor
from worldmodel.training.masked_objective import continue_training
from worldmodel.training.masking import gather_tokens, step_generator
from worldmodel.training.metrics import Row
from worldmodel.training.schedules import warmup_cosine
from worldmodel.training.sources import Sources, choose_clips
from worldmodel.training.task import Task, part_of
from worldmodel.training.tasks.pretrain import COLLAPSED_STD, VALIDATION_STEP
from worldmodel.training.verdict import Finding, judge_pretraining

log = logging.getLogger(__name__)
REJECTS = "rejects.json"
"""File of unreadable images in the run's folder."""


def build_image_encoder(options: ImagePretrainOptions) -> VisionTransformer:
    """Build the encoder to train, from a published size, given sizes or a file.

    Raises:
        ConfigError: The sizes are inconsistent, or the file holds no encoder of images.
    """
    sizes = options.encoder
    if sizes.init:
        start = load_encoder(sizes.init, "cpu")
        if not isinstance(start, VideoEncoder) or start.backbone.config.position != "sincos_2d":
            raise ConfigError(
                f"init={sizes.init!r} is not an I-JEPA encoder, which images can train; for V-JEPA "
                "encoders use mode=clips"
            )
        return continue_training(start.backbone)
    side, patch = sizes.image_size, sizes.patch_size
    if side % patch or side == patch:
        raise ConfigError(
            f"image_size={side}, patch_size={patch}: masks need several whole patches a side"
        )
    config = EncoderConfig(
        image_size=(side, side),
        num_frames=1,
        patch_size=patch,
        tubelet_size=1,
        embed_dim=sizes.encoder_dim,
        depth=sizes.encoder_depth,
        num_heads=sizes.encoder_heads,
        position="sincos_2d",
    )
    if sizes.size:
        named = preset(sizes.size)
        names = ("embed_dim", "depth", "num_heads", "mlp_ratio")
        config = dataclasses.replace(config, **{name: getattr(named, name) for name in names})
        heads = IMAGE_HEADS.get((config.embed_dim, config.depth), config.num_heads)
        config = dataclasses.replace(config, num_heads=heads)
    return VisionTransformer(config)


def build_image_predictor(options: ImagePretrainOptions, encoder: EncoderConfig) -> MaskedPredictor:
    """Build the predictor, from the given sizes or a published file.

    Raises:
        ConfigError: The file's predictor does not fit the encoder.
    """
    sizes, file = options.predictor, options.encoder.predictor_init
    if not file:
        return image_predictor(encoder, embed_dim=sizes.predictor_dim, depth=sizes.predictor_depth)
    path, _ = find_source(file)
    predictor = load_published(path, "predictor", image_size=encoder.image_size, num_frames=1)
    grid = (1, *(side // encoder.patch_size for side in encoder.image_size))
    if not isinstance(predictor, MaskedPredictor) or predictor.config.position != "sincos_2d":
        raise ConfigError(f"predictor_init={file!r} is not a predictor of I-JEPA")
    if (predictor.config.encoder_dim, predictor.config.grid) != (encoder.embed_dim, grid):
        c = predictor.config
        raise ConfigError(
            f"predictor_init={file!r} takes tokens of width {c.encoder_dim} on a grid {c.grid}; "
            f"the encoder's have width {encoder.embed_dim} on {grid}: say init= with the same file"
        )
    return continue_training(predictor)


class ImagePretrainTask(Task):
    """Trains an image encoder by masked prediction and exports its moving average."""

    file_name = "encoder.safetensors"
    options: ImagePretrainOptions
    objective: ImageObjective

    def __init__(self, options: ImagePretrainOptions, train: ImageFolder, val: ImageFolder) -> None:
        """Prepare a run on images at the encoder's size."""
        super().__init__(options, Sources(train, val))
        self.images, self.held_out = train, val
        self.drawn: tuple[int, ImageIds] | None = None

    @classmethod
    def open(cls, options: ImagePretrainOptions, ranks: Ranks) -> ImagePretrainTask:
        """Find the images selected by the options.

        Raises:
            ConfigError: The encoder's sizes are inconsistent.
            DataError: There are no images, or too many are unreadable.
        """
        del ranks  # every rank lists the images by itself
        asked, size = options.images, options.encoder.image_size
        if options.encoder.init:
            size = load_encoder(options.encoder.init, "cpu").image_size[0]
        read = ImageOptions(
            size=size,
            crop_scale=asked.crop_scale,
            links=asked.links,
            max_reject_fraction=asked.max_reject_fraction,
            workers=asked.workers,
        )
        folders = (Path(options.run.data), Path(options.run.val))
        return cls(options, *(ImageFolder(folder, read) for folder in folders))

    def build(self, device: torch.device) -> nn.Module:
        """Build encoder, moving average and predictor."""
        self.device = device
        encoder = build_image_encoder(self.options)
        rows, columns = (side // encoder.config.patch_size for side in encoder.config.image_size)
        self.grid = (rows, columns)
        predictor = build_image_predictor(self.options, encoder.config)
        self.objective = ImageObjective(encoder, predictor).to(device)
        self.frame_encoder = VideoEncoder.of(encoder).to(device)
        self.val_batch = self._held_out()
        return self.objective

    def blocks(self) -> Iterable[nn.Module]:
        """Return the transformer blocks of encoder, moving average and predictor."""
        objective = self.objective
        found = [block for part in (objective.encoder, objective.target) for block in part.blocks]
        return [*found, *objective.predictor.predictor_blocks]

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a linear warm-up and a cosine."""
        schedule, steps = self.options.schedule, self.options.loop.steps
        return warmup_cosine(
            step + 1,
            start=schedule.lr_start,
            peak=self.options.optimizer.lr,
            end=schedule.lr_end,
            warmup=min(schedule.warmup, steps),
            total=steps,
        )

    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Set the weight decay of matrices, a cosine over the run."""
        start, total = self.options.optimizer.weight_decay, self.options.loop.steps
        end = self.options.schedule.weight_decay_end
        decay = warmup_cosine(step + 1, start=start, peak=start, end=end, warmup=0, total=total)
        for group in optimizer.param_groups:
            if group["params"][0].ndim > 1:
                group["weight_decay"] = decay

    def _masks(self, count: int, step: int) -> ImageIds:
        generator = step_generator(self.options.run.seed, step)
        return sample_image_masks(count, self.grid, self.options.masks, step, generator)

    def _batch(self, frames_BHWC: np.ndarray, ids: ImageIds) -> Batch:
        targets = ids.targets.transpose(0, 1)
        read = {"images": torch.from_numpy(frames_BHWC), "context": ids.context, "targets": targets}
        batch = to_device(read, self.device)
        return {**batch, "images": self.frame_encoder.pixels(batch["images"])}

    def load(self, step: int, chosen: np.ndarray, part: slice) -> Batch:
        """Read random crops, and draw the whole batch's masks so that ranks agree.

        Raises:
            DataError: No image of the batch can be read, or too many of the folder cannot.
        """
        if self.drawn is None or self.drawn[0] != step:
            self.drawn = (step, self._masks(len(chosen), step))
        ids = self.drawn[1]
        seeds = np.random.SeedSequence([self.options.run.seed, step]).generate_state(len(chosen))
        frames_BHWC, kept_B = self.images.crops(chosen[part], [int(s) for s in seeds[part]])
        if not len(frames_BHWC):
            raise DataError(f"No image of a batch can be read: {self.images.describe_rejects()}")
        kept = torch.from_numpy(kept_B)
        mine = ImageIds(context=ids.context[part][kept], targets=ids.targets[:, part][:, kept])
        return self._batch(frames_BHWC, mine)

    def figures(self, step: int) -> Row:
        """Return the momentum of the moving average and the number of unreadable images."""
        return {"momentum": self._momentum(step), "unreadable": float(len(self.images.rejects))}

    def _momentum(self, step: int) -> float:
        done = min(1.0, step / max(1, self.options.loop.steps))
        start, end = self.options.target.momentum, self.options.target.momentum_end
        return start + (end - start) * done

    def after_step(self, step: int) -> None:
        """Update the moving average."""
        self.objective.update_target(self._momentum(step))

    def _held_out(self) -> Batch:
        """Return centre crops of held-out images, with the same masks at every validation."""
        count, seed = self.options.loop.val_clips, self.options.run.seed
        frames = self.held_out.batch(np.sort(choose_clips(self.held_out, count, seed)))["frames"]
        return self._batch(frames[:, 0], self._masks(len(frames), VALIDATION_STEP))

    @torch.no_grad()
    def validate(self) -> Row:
        """Measure the loss, that of each position's mean, and the features' spread and rank."""
        objective, batch = self.objective, self.val_batch
        objective.eval()
        tokens_BND = normalise(objective.target(batch["images"].unsqueeze(2)).float())
        mean_BND = tokens_BND.mean(0, keepdim=True).expand_as(tokens_BND)
        blocks = batch["targets"].unbind(1)
        hidden, mean = (
            torch.cat([gather_tokens(tokens, block) for block in blocks])
            for tokens in (tokens_BND, mean_BND)
        )
        row = {
            "val_loss": float(objective(batch)["loss"]),
            "val_mean": float(F.smooth_l1_loss(mean, hidden)),
            "feature_std": feature_std(tokens_BND),
            "effective_rank": effective_rank(tokens_BND),
        }
        objective.train()
        return row

    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write the moving average as an encoder, and the names of unreadable images."""
        with torch.random.fork_rng(devices=[]):
            encoder = VideoEncoder.of(VisionTransformer(self.objective.encoder.config))
        encoder.backbone.load_state_dict(part_of(weights, "target"))
        save(
            path,
            encoder,
            notes={"pretraining": "images", "steps": str(self.options.loop.last_step)},
        )
        rejected = {**self.images.rejects, **self.held_out.rejects}
        write_json(path.parent / REJECTS, dict(sorted(rejected.items())))
        predictor = part_of(weights, "predictor").values()
        return {
            "parameters": sum(p.numel() for p in encoder.parameters()),
            "predictor_parameters": sum(p.numel() for p in predictor),
            "unreadable_images": len(rejected),
            "simulator_label": "no",
            "model": to_dict(encoder.config),
        }

    def findings(self, row: Row) -> list[Finding]:
        """Return the verdict on masked prediction and feature collapse."""
        return judge_pretraining(row, COLLAPSED_STD)
