"""`mode=post`: the published post-training of an action-conditioned predictor, encoder frozen.

Teacher forcing plus a rollout whose context is the first frame and its own first prediction.
Source: V-JEPA 2 (arXiv 2506.09985), sec. 3.1. Shapes: B clips, T frames, N tokens, D width.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    checkpoint_wrapper,
)

from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_encoder, resolve_device
from worldmodel.errors import ConfigError
from worldmodel.evaluation.rollout_error import offline_action_error, rollout_errors
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import DynamicsConfig, PredictorConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ActionSpec
from worldmodel.training.distributed import Ranks
from worldmodel.training.loop import LoopConfig, batch_indices, run_loop
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.schedules import warmup_constant_decay
from worldmodel.training.tasks.joint import TrainConfig, _text, parameter_groups
from worldmodel.training.tasks.post_data import Source, open_sources

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class PostTrainConfig(TrainConfig):
    """Options of `worldmodel train`; those below belong to `mode=post`."""

    mode: str = _text("joint", "joint, post (as published), frozen or finetune (on encoder=)")
    encoder: str = _text("", "post, frozen, finetune: a model's name or file, or random:SIZE")
    encoder_lr_scale: float = _text(0.3, "finetune: factor on the encoder's learning rate")
    fps: float = _text(4.0, "post: frames a second by the recorded timestamps")
    transform: str = _text("droid", "post: droid, published or squeeze")
    state_frame: str = _text("flange", "post: flange or tcp")
    camera: str = _text("left", "post: left, right, wrist or a serial number")
    extrinsics: bool = _text(False, "post: a token for the camera's pose")
    idle: str = _text("keep", "post: keep or drop clips with idle steps")
    max_reject_fraction: float = _text(0.5, "stop when the index rejected a larger share")
    make_data: int = _text(0, "post: synthetic episodes to write under out/data (0: none)")
    workers: int = _text(2, "post: decoding threads")
    lr_start: float = _text(7.5e-5, "post: learning rate at the first step")
    lr_end: float = _text(0.0, "post: learning rate at the last step")
    warmup: int = _text(4500, "post: steps from lr_start to lr")
    decay: int = _text(4500, "post: last steps, from lr to lr_end")
    accumulate: int = _text(1, "post: micro-batches of a step")
    clip_norm: float = _text(1.0, "post: largest gradient norm")
    checkpoint_activations: bool = _text(False, "post: recompute blocks backwards, for memory")
    compile: bool = _text(False, "post: torch.compile each block")
    parallel: str = _text("ddp", "post, under torchrun: ddp or fsdp")
    val_clips: int = _text(32, "post: held-out clips of a validation")
    plan_clips: int = _text(4, "post: held-out clips that are planned (0: none)")


def build_predictor(config: PostTrainConfig, grid: tuple[int, int], dim: int) -> LatentDynamics:
    """Build the latent dynamics that is trained; it needs no encoder.

    Args:
        config: sizes.
        grid: patch rows and columns of a frame.
        dim: the encoder's width.
    """
    predictor = PredictorConfig(
        grid=grid,
        encoder_dim=dim,
        embed_dim=config.predictor_dim,
        depth=config.predictor_depth,
        num_heads=config.predictor_heads,
        num_frames=max(16, config.num_frames),
        has_extrinsics_encoder=config.extrinsics,
        use_extrinsics=config.extrinsics,
    )
    action = ActionSpec(period_s=1 / config.fps)
    return LatentDynamics(DynamicsConfig(predictor=predictor, action=action))


def _set_observation(encoder: FrameEncoder, config: PostTrainConfig) -> None:
    """Let the encoder's spec say how the clips of this run are made."""
    transform: Any = config.transform
    frame: Any = config.state_frame
    spec = dataclasses.replace(
        encoder.observation_spec,
        transform=transform,
        cameras=(config.camera,),
        state_frame=frame,
        frames_per_token=encoder.config.encoder.tubelet_size,
    )
    encoder.set_observation(spec)


def prepare_blocks(world: LatentDynamics, config: PostTrainConfig) -> None:
    """Compile blocks and have them recomputed backwards, where asked for."""
    blocks = world.predictor.predictor_blocks
    for i, block in enumerate(blocks):
        if config.compile:
            block.compile()
        if config.checkpoint_activations:
            blocks[i] = checkpoint_wrapper(block, checkpoint_impl=CheckpointImpl.NO_REENTRANT)


class Features:
    """Batches of features: read from disk, or encoded here when the source has frames."""

    def __init__(
        self,
        source: Source,
        encoder: FrameEncoder | None,
        device: torch.device,
        *,
        bf16: bool,
        extrinsics: bool = False,
    ) -> None:
        self.source, self.encoder, self.device, self.bf16 = source, encoder, device, bf16
        self.names = ("states", "actions", *(("extrinsics",) if extrinsics else ()))

    @torch.no_grad()
    def __call__(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Features [B,T,N,D] float32, states [B,T,7], actions [B,T-1,7], extrinsics [B,T,6]."""
        batch = self.source.batch(indices)
        out = {k: torch.as_tensor(batch[k]).to(self.device) for k in self.names}
        if "features" in batch:
            out["features"] = torch.as_tensor(batch["features"]).to(self.device).float()
            return out
        if self.encoder is None:
            raise ConfigError("the data holds frames: say encoder=NAME, which makes them features")
        frames = torch.as_tensor(batch["frames"])
        low = torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()
        with low:
            z_BND = self.encoder.encode(frames.flatten(0, 1))
        out["features"] = z_BND.float().unflatten(0, frames.shape[:2])
        return out


class Prefetcher:
    """Reads the next step's micro-batches while this one is trained on; order never changes."""

    def __init__(self, load: Callable[[int, int], dict[str, Tensor]], accumulate: int) -> None:
        self.load, self.accumulate = load, accumulate
        self.pool = ThreadPoolExecutor(1)
        self.waiting: dict[tuple[int, int], Future[dict[str, Tensor]]] = {}

    def _ask(self, key: tuple[int, int]) -> Future[dict[str, Tensor]]:
        if key not in self.waiting:
            self.waiting[key] = self.pool.submit(self.load, *key)
        return self.waiting[key]

    def __call__(self, step: int) -> Iterator[dict[str, Tensor]]:
        """The step's micro-batches."""
        for micro in range(self.accumulate):
            future = self._ask((step, micro))
            last = micro + 1 == self.accumulate
            self._ask((step + 1, 0) if last else (step, micro + 1))
            yield future.result()
            del self.waiting[step, micro]


def rate_at(step: int, config: PostTrainConfig) -> float:
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


def _check(config: PostTrainConfig, clips: int, ranks: int) -> None:
    if config.parallel not in {"ddp", "fsdp"}:
        raise ConfigError(f"parallel={config.parallel!r}; allowed: ddp, fsdp")
    if config.batch_size % (config.accumulate * ranks):
        raise ConfigError(
            f"batch_size={config.batch_size} is not divisible by accumulate={config.accumulate} x "
            f"{ranks} processes: choose a multiple"
        )
    if clips < config.batch_size:
        raise ConfigError(
            f"{clips} clips are fewer than batch_size={config.batch_size}: lower it, or add data"
        )


def posttrain(config: PostTrainConfig) -> dict[str, Any]:
    """Train to `config.steps`; writes out/model.safetensors, metrics.jsonl and summary.json.

    Raises:
        ConfigError: options that do not fit the data or each other.
        DataError: no data, or too much of it rejected.
        TrainingError: divergence, a full disk or a dead rank.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    ranks = Ranks.from_environment()
    device, out = ranks.device(resolve_device(config.device)), Path(config.out)
    encoder = None
    if config.encoder:
        encoder = load_encoder(
            config.encoder, device, seed=config.seed, image_size=config.image_size
        )
        _set_observation(encoder, config)
    train_source, val_source = open_sources(config, encoder, ranks)
    _check(config, len(train_source), ranks.count)
    torch.manual_seed(config.seed)
    sample = Features(train_source, encoder, device, bf16=config.bf16)(np.array([0]))["features"]
    side = round(sample.shape[2] ** 0.5)
    world = build_predictor(config, (side, side), sample.shape[3]).to(device)
    if device.type == "cpu":
        optimize_for_cpu(world)
    prepare_blocks(world, config)
    weights = ObjectiveConfig(
        rollout_steps=config.rollout_steps, rollout=config.rollout, augment=0.0
    )
    objective = Objective(world, weights, joint=False)
    engine = ranks.wrap(objective, config.parallel)
    optimizer = torch.optim.AdamW(
        parameter_groups(objective, config.weight_decay), lr=config.lr, betas=(0.9, config.beta2)
    )
    features = Features(
        train_source, encoder, device, bf16=config.bf16, extrinsics=config.extrinsics
    )

    def load(step: int, micro: int) -> dict[str, Tensor]:
        whole = batch_indices(len(train_source), config.batch_size, step, config.seed)
        part = np.split(whole, config.accumulate)[micro]
        return features(np.split(part, ranks.count)[ranks.rank])

    held_out = _held_out(val_source, encoder, device, config)
    last = config.stop_after or config.steps
    losses: dict[int, dict[str, Tensor]] = {}

    def loss_fn(batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = engine(batch)
        before = losses.get(step, {})
        losses.clear()
        losses[step] = {
            name: before.get(name, 0) + value.detach() / config.accumulate
            for name, value in parts.items()
        }
        return parts

    def on_log(step: int) -> dict[str, float]:
        row = ranks.mean(losses[step]) if ranks.count > 1 else {}
        if step % config.eval_every == 0 or step + 1 == last:
            with ranks.unsharded(engine):
                row |= validate(world, held_out, config.plan_clips)
            log.info("step %d: %s", step, {k: round(v, 4) for k, v in row.items()})
        return row

    started = time.perf_counter()
    loop = LoopConfig(
        steps=last,
        seed=config.seed,
        bf16=config.bf16,
        save_every=config.save_every,
        log_every=config.log_every,
        tensorboard=config.tensorboard and ranks.rank == 0,
        accumulate=config.accumulate,
        clip_norm=config.clip_norm,
    )
    with ranks.guarded():
        row = run_loop(
            model=objective,
            optimizer=optimizer,
            loss_fn=loss_fn,
            batches=Prefetcher(load, config.accumulate),
            config=loop,
            on_log=on_log,
            out=out if ranks.rank == 0 else out / f".rank-{ranks.rank}",
            learning_rate=lambda step: rate_at(step, config),
            store=ranks.store(out),
        )
    summary = {
        "last": row,
        "clips": len(train_source),
        "held_out_clips": len(val_source),
        "parameters": sum(p.numel() for p in world.parameters()),
        "minutes": (time.perf_counter() - started) / 60,
        "processes": ranks.count,
        "options": vars(config),
        "model": to_dict(world.config),
    }
    weights_out = ranks.full_state(world.predictor)
    if ranks.rank == 0:
        _write(out, world, weights_out, encoder, summary)
    ranks.close()
    return summary


def _held_out(
    source: Source, encoder: FrameEncoder | None, device: torch.device, config: PostTrainConfig
) -> dict[str, Tensor]:
    rng = np.random.default_rng(config.seed)
    chosen = rng.choice(len(source), size=min(config.val_clips, len(source)), replace=False)
    features = Features(source, encoder, device, bf16=config.bf16, extrinsics=config.extrinsics)
    return features(np.sort(chosen))


def validate(world: LatentDynamics, batch: dict[str, Tensor], plan_clips: int) -> dict[str, float]:
    """Rollout error by step, sensitivity to actions, the planner's offline action error."""
    world.eval()
    names = ("features", "states", "actions", "extrinsics")
    data = [batch[name] for name in names if name in batch]
    row = rollout_errors(world, *data)
    if plan_clips:
        row |= offline_action_error(world, *(value[:plan_clips] for value in data))
    world.train()
    return row


def _write(
    out: Path,
    world: LatentDynamics,
    weights: dict[str, Tensor],
    encoder: FrameEncoder | None,
    summary: dict[str, Any],
) -> None:
    if encoder is not None:
        predictor = ActionConditionedPredictor(world.config.predictor)
        predictor.load_state_dict(weights)
        whole = WorldModel(encoder.cpu(), LatentDynamics(world.config, predictor)).eval()
        save(out / "model.safetensors", whole)
        summary["model"] = to_dict(whole.config)
    else:
        log.warning("trained on features without encoder=: only the checkpoints hold the weights")
    (out / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
