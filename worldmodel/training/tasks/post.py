"""`mode=post`: published post-training of an action-conditioned predictor on a frozen encoder.

The loss is teacher forcing plus a rollout from the first frame and its own first prediction.

Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.1. Shapes: B clips, T frames, N tokens, D width, S
state, A action.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    checkpoint_wrapper,
)

from worldmodel.checkpoints.io import Model, save
from worldmodel.data.clip_source import ClipSource
from worldmodel.errors import ConfigError
from worldmodel.evaluation.rollout_error import rollout_errors
from worldmodel.models.config import PredictorConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.kernels.compiled_blocks import TrainedBlock, compile_blocks
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.models.precision import autocast, use_precision
from worldmodel.models.views import encode_views
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ActionSpec
from worldmodel.training.batches import Batch, to_device
from worldmodel.training.config import PostOptions
from worldmodel.training.distributed import Ranks
from worldmodel.training.metrics import Row
from worldmodel.training.network_options import BlockConfig
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.schedules import rate_at
from worldmodel.training.sources import Sources, choose_clips, open_post
from worldmodel.training.start_models import open_encoder
from worldmodel.training.task import PredictorTask

log = logging.getLogger(__name__)


def build_dynamics(
    options: PostOptions, grid: tuple[int, int], dim: int, state_dim: int, action_dim: int
) -> LatentDynamics:
    """Build the published predictor for frames of `grid` tokens of width `dim`."""
    sizes, clips = options.predictor, options.clips
    predictor = PredictorConfig(
        grid=grid,
        num_views=len(clips.cameras),
        encoder_dim=dim,
        embed_dim=sizes.predictor_dim,
        depth=sizes.predictor_depth,
        num_heads=sizes.predictor_heads,
        num_frames=max(16, clips.num_frames),
        conditioning=sizes.conditioning,
        state_dim=state_dim,
        action_dim=action_dim,
        has_extrinsics_encoder=clips.extrinsics,
        use_extrinsics=clips.extrinsics,
    )
    action = ActionSpec(action_dim=action_dim, gripper="difference", period_s=1 / clips.fps)
    return LatentDynamics(DynamicsConfig(predictor=predictor, action=action))


def prepare_blocks(dynamics: LatentDynamics, config: BlockConfig) -> None:
    """Enable compilation and activation checkpointing of the blocks, as configured."""
    blocks = dynamics.predictor.predictor_blocks
    if config.compile and next(dynamics.parameters()).device.type == "cuda":
        compile_blocks(dynamics, TrainedBlock)
    for i, block in enumerate(blocks):
        if config.compile and not isinstance(block, TrainedBlock):
            block.compile()
        if config.checkpoint_activations:
            blocks[i] = checkpoint_wrapper(block, checkpoint_impl=CheckpointImpl.NO_REENTRANT)


def frozen_on(encoder: FrameEncoder, device: torch.device, *, bf16: bool) -> FrameEncoder:
    """Return a frozen encoder for a device: itself on a CPU, else a copy.

    With `bf16` the copy's weights are bfloat16 where the device has it. The original stays as it
    was loaded, for the exported model.
    """
    if device.type == "cpu":
        return encoder
    reading = copy.deepcopy(encoder)
    if bf16:
        use_precision([reading.backbone], "auto", device)
    return reading.to(device)


class FeatureReader:
    """Reads batches of features, encoding frames if the source holds frames."""

    def __init__(
        self,
        encoder: FrameEncoder | None,
        device: torch.device,
        *,
        bf16: bool,
        extrinsics: bool = False,
    ) -> None:
        """Read to `device`; sources of frames require an encoder."""
        self.encoder, self.device, self.bf16 = encoder, device, bf16
        self.names = ("states", "actions", *(("extrinsics",) if extrinsics else ()))

    @torch.no_grad()
    def __call__(self, source: ClipSource, indices: np.ndarray) -> Batch:
        """Return features [B,T,N,D] float32, states [B,T,S], actions [B,T-1,A], extrinsics.

        Raises:
            ConfigError: The source holds frames and there is no encoder.
        """
        batch = source.batch(indices)
        stored = "features" if "features" in batch else "frames"
        read = {k: torch.as_tensor(batch[k]) for k in (*self.names, stored)}
        out = to_device(read, self.device)
        if stored == "features":
            out["features"] = out["features"].float()
            return out
        if self.encoder is None:
            raise ConfigError("the data holds frames: set encoder=NAME to encode them")
        frames = out.pop("frames")
        with autocast(self.device, bf16=self.bf16, weights=self.encoder.dtype):
            z_BND = encode_views(self.encoder.encode, frames.flatten(0, 1))
        out["features"] = z_BND.float().unflatten(0, frames.shape[:2])
        return out


class PostTask(PredictorTask):
    """Trains a predictor on the features of a frozen encoder."""

    options: PostOptions

    def __init__(
        self, options: PostOptions, sources: Sources, encoder: FrameEncoder | None = None
    ) -> None:
        """Prepare a run; without an encoder, the sources must hold features."""
        super().__init__(options, sources)
        self.encoder = encoder

    @classmethod
    def open(cls, options: PostOptions, ranks: Ranks, given: Model | None = None) -> PostTask:
        """Open the encoder and the clips selected by the options.

        Args:
            options: Options of the run.
            ranks: Processes of the run.
            given: Model that `encoder=` names; None loads it.

        Raises:
            ConfigError: The options are inconsistent with the data.
            DataError: There is no data, or too much of it was rejected.
        """
        start, encoder = options.start, None
        if start.encoder:
            encoder = open_encoder(start, options.run.seed, given)
        return cls(options, open_post(options, encoder, ranks), encoder)

    def start_modules(self) -> Iterable[nn.Module]:
        """Return the encoder, if the run has one."""
        return () if self.encoder is None else (self.encoder.backbone,)

    def build(self, device: torch.device) -> nn.Module:
        """Build the predictor for the token shape of the first clip."""
        options, loop = self.options, self.options.loop
        reading = None if self.encoder is None else frozen_on(self.encoder, device, bf16=loop.bf16)
        self.read = FeatureReader(
            reading, device, bf16=loop.bf16, extrinsics=options.clips.extrinsics
        )
        sample = self.read(self.sources.train, np.array([0]))
        tokens, width = sample["features"].shape[2:]
        side = round((tokens / len(options.clips.cameras)) ** 0.5)
        grid = self.encoder.token_grid if self.encoder is not None else (side, side)
        sizes = (sample["states"].shape[-1], sample["actions"].shape[-1])
        dynamics = build_dynamics(options, grid, width, *sizes).to(device)
        prepare_blocks(dynamics, options.blocks)
        config = ObjectiveConfig(rollout=options.objective)
        self.objective = Objective(dynamics, config)
        chosen = choose_clips(self.sources.held_out, loop.val_clips, options.run.seed)
        self.held_out = self.read(self.sources.held_out, np.sort(chosen))
        return self.objective

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a warm-up, constant and decay."""
        return rate_at(step, self.options)

    def load(self, step: int, chosen: np.ndarray, part: slice) -> Batch:
        """Read or encode features."""
        return self.read(self.sources.train, chosen[part])

    def validate(self) -> Row:
        """Measure rollout errors by step, sensitivity to actions and offline action error."""
        dynamics = self.objective.dynamics
        dynamics.eval()
        names = ("features", "states", "actions", "extrinsics")
        data = [self.held_out[name] for name in names if name in self.held_out]
        row = rollout_errors(dynamics, *data)
        row |= self.action_error(*data)
        dynamics.train()
        return row

    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write encoder and predictor; without an encoder, no model file is written."""
        dynamics = self.trained(weights)
        facts: dict[str, object] = {
            "parameters": sum(p.numel() for p in dynamics.parameters()),
            "model": to_dict(dynamics.config),
        }
        if self.encoder is None:
            log.warning("trained on features without encoder=: only the checkpoints hold weights")
            return facts
        spec = self.observation(self.encoder, self.options.clips.state_frame)
        world = WorldModel(self.encoder.set_observation(spec), dynamics)
        save(path, world)
        return facts | {"model": to_dict(world.config)}
