"""The `train` run: an action-conditioned world model from recorded episodes.

`mode=joint` trains a small encoder together with the predictor (anti-collapse terms keep the latent
alive); the data must fit in memory as prepared frames. `mode=frozen` and `mode=finetune` begin with
a pretrained encoder (`worldmodel pretrain`): the one trains the predictor alone, the other all with
the joint terms. Shapes: B clips, T frames.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import resolve_device
from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig, ModelConfig, PredictorConfig, Scaling
from worldmodel.models.config_dict import to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ActionSpec, ObservationSpec
from worldmodel.training.loop import LoopConfig, batch_indices, run_loop
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.schedules import warmup_flat_cosine

log = logging.getLogger(__name__)


def _text(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(kw_only=True)
class TrainConfig:
    """Options of `worldmodel train`."""

    recipe: str = _text("", "configs/train/<recipe>.yaml, read before the other options")
    data: str = _text("runs/data/train", "folder of training episodes")
    val: str = _text("runs/data/val", "folder of held-out episodes")
    out: str = _text("runs/train", "folder of checkpoints, metrics and the model")
    device: str = _text("auto", "auto, cpu or cuda")
    threads: int = _text(0, "CPU threads (0: torch's choice)")
    seed: int = _text(0, "of weights, data order and augmentation")
    steps: int = _text(12000, "optimiser steps")
    stop_after: int = _text(0, "stop early after this many steps (0: never); schedule unchanged")
    batch_size: int = _text(64, "clips of one step")
    num_frames: int = _text(4, "frames of a clip")
    lr: float = _text(1e-3, "peak learning rate")
    weight_decay: float = _text(0.04, "AdamW, matrices only")
    beta2: float = _text(0.98, "AdamW")
    bf16: bool = _text(True, "autocast")
    image_size: int = _text(128, "pixels of a side")
    stem_channels: list[int] = field(
        default_factory=lambda: [16, 32, 64, 96],
        metadata={"help": "output channels of the stem's stride-2 convolutions"},
    )
    patch_size: int = _text(128, "pixels that make one token")
    encoder_dim: int = _text(256, "width of a token")
    encoder_depth: int = _text(1, "transformer blocks after the stem")
    encoder_heads: int = _text(4, "")
    predictor_dim: int = _text(256, "")
    predictor_depth: int = _text(4, "")
    predictor_heads: int = _text(4, "")
    rollout: float = _text(1.0, "weight of the rollout loss")
    rollout_steps: int = _text(2, "imagined steps of the rollout loss")
    variance: float = _text(1.0, "weight against collapse: spread of each feature")
    covariance: float = _text(0.05, "weight against redundancy between features")
    inverse: float = _text(0.5, "weight of decoding the action")
    state: float = _text(0.5, "weight of decoding the robot's own state")
    object: float = _text(0.0, "weight of decoding the object's position, a simulator label")
    augment: float = _text(0.1, "brightness and colour spread")
    hue_deg: float = _text(0.0, "largest turn of a clip's hues [deg]")
    pattern: float = _text(0.0, "largest change of brightness by a pattern over a clip")
    save_every: int = _text(500, "steps between checkpoints")
    log_every: int = _text(50, "steps between rows of metrics.jsonl")
    eval_every: int = _text(500, "steps between validations")
    tensorboard: bool = _text(False, "also write TensorBoard events")


class Clips(Protocol):
    """Episodes in memory."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Frames uint8 [B,T,H,W,3], states [B,T,7], actions [B,T-1,7], objects [B,T,3]."""
        ...


def measure_scales(clips: Clips, seed: int, count: int = 2048) -> dict[str, Any]:
    """State offset and scale, action scale, from a sample of clips (angles unwrapped).

    And what the action's gripper number is: a command as sent, or a difference of states.
    """
    rng = np.random.default_rng(seed)
    sample = clips.batch(rng.choice(len(clips), size=min(count, len(clips)), replace=False))
    states, actions = sample["states"].reshape(-1, 7), sample["actions"].reshape(-1, 7)
    angles = states[:, 3:6]
    middle = np.arctan2(np.sin(angles).mean(0), np.cos(angles).mean(0))
    wrapped = (angles - middle + np.pi) % (2 * np.pi) - np.pi
    offset = np.concatenate([states[:, :3].mean(0), middle, [0.0]])
    scale = np.concatenate([states[:, :3].std(0), np.maximum(wrapped.std(0), 0.15), [0.4]])
    action = np.concatenate(
        [actions[:, :3].std(0), np.maximum(actions[:, 3:6].std(0), 0.05), [0.5]]
    )
    return {
        "state_offset": tuple(float(x) for x in offset),
        "state_scale": tuple(float(x) for x in scale),
        "action_scale": tuple(float(x) for x in action),
        "gripper": "command" if getattr(clips, "sent", True) else "difference",
    }


@dataclass(frozen=True, kw_only=True)
class Start:
    """A pretrained encoder to train on."""

    encoder: FrameEncoder
    frozen: bool
    """True: only the predictor learns, from prediction alone. False: all, with the joint terms."""
    lr_scale: float = 1.0
    """Factor on the encoder's learning rate when it is not frozen."""


def small_model(
    config: TrainConfig, scales: dict[str, Any], given: FrameEncoder | None = None
) -> ModelConfig:
    """Return the embedded model's sizes and specs, or those for a given encoder.

    Raises:
        ConfigError: the given encoder is for another picture size or tubelet.
    """
    encoder = given.config.encoder if given else _small_encoder(config)
    size = (config.image_size, config.image_size)
    if encoder.image_size != size or encoder.tubelet_size not in (1, 2):
        raise ConfigError(
            f"the encoder takes {encoder.image_size} pixels and tubelets of "
            f"{encoder.tubelet_size} frames; image_size={config.image_size}: say "
            f"image_size={encoder.image_size[0]}, and take an encoder with tubelets of 1 or 2"
        )
    grid = config.image_size // encoder.patch_size
    predictor = PredictorConfig(
        grid=(grid, grid),
        encoder_dim=encoder.embed_dim,
        embed_dim=config.predictor_dim,
        depth=config.predictor_depth,
        num_heads=config.predictor_heads,
        num_frames=16,
        rope="interleaved",
        residual=True,
        embed_init_std=0.3,
    )
    units = dict(scales)
    action = ActionSpec(gripper=units.pop("gripper", "command"))
    seen = given.observation_spec if given else ObservationSpec(image_size=size)
    observation = dataclasses.replace(
        seen, transform="droid", frames_per_token=encoder.tubelet_size
    )
    return ModelConfig(
        encoder=encoder,
        predictor=predictor,
        observation=observation,
        action=action,
        scaling=Scaling(wrap_angles=True, **units),
    )


def _small_encoder(config: TrainConfig) -> EncoderConfig:
    return EncoderConfig(
        image_size=(config.image_size, config.image_size),
        num_frames=1,
        patch_size=config.patch_size,
        tubelet_size=1,
        embed_dim=config.encoder_dim,
        depth=config.encoder_depth,
        num_heads=config.encoder_heads,
        rope="interleaved",
        stem="conv",
        stem_channels=tuple(config.stem_channels),
        affine_norm=False,
    )


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with decay; biases, norms and other vectors without."""
    live = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in live if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in live if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _tensors(batch: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value).to(device) for name, value in batch.items()}


@torch.no_grad()
def validate(objective: Objective, batch: dict[str, Tensor]) -> dict[str, float]:
    """Prediction loss with true, copied and shuffled actions, and label-head errors, on a batch."""
    objective.eval()
    world = objective.world
    z_BTND = objective.encode(batch["frames"])
    states_BTS, actions_BTA = batch["states"][:, :-1], batch["actions"]
    out_BTND = world.predict(z_BTND[:, :-1], actions_BTA, states_BTS)
    wrong_BTND = world.predict(z_BTND[:, :-1], actions_BTA.roll(1, 0), states_BTS)
    target = z_BTND[:, 1:]
    row = {
        "val_true": float((out_BTND - target).abs().mean()),
        "val_copy": float((z_BTND[:, :-1] - target).abs().mean()),
        "val_shuffled": float((wrong_BTND - target).abs().mean()),
    }
    if objective.object_head is not None:
        from worldmodel.training.objective import OBJECT_CENTRE_M, OBJECT_SCALE_M

        centre = batch["objects"].new_tensor(OBJECT_CENTRE_M)
        for name, z, wanted in (
            ("val_object_encoded_m", z_BTND, batch["objects"]),
            ("val_object_predicted_m", out_BTND, batch["objects"][:, 1:]),
        ):
            found = objective.object_head(z.flatten(2)) * OBJECT_SCALE_M + centre
            row[name] = float((found - wanted).norm(dim=-1).mean())
    objective.train()
    return row


def build_world(config: TrainConfig, scales: dict[str, Any], start: Start | None) -> WorldModel:
    """A fresh world model, or one around the encoder to start from."""
    if start is None:
        return WorldModel.from_config(small_model(config, scales))
    model = small_model(config, scales, start.encoder)
    start.encoder.requires_grad_(not start.frozen)
    return WorldModel(
        start.encoder.set_observation(model.observation), LatentDynamics(model.dynamics)
    )


def optimised(objective: Objective, config: TrainConfig, start: Start | None) -> torch.optim.AdamW:
    """AdamW over what learns; a pretrained encoder may learn more slowly than the rest."""
    groups = parameter_groups(objective, config.weight_decay)
    if start is not None and not start.frozen:
        mine = {id(p) for p in start.encoder.parameters()}
        for group in list(groups):
            encoder = [p for p in group["params"] if id(p) in mine]
            group["params"] = [p for p in group["params"] if id(p) not in mine]
            groups.append({**group, "params": encoder, "lr_scale": start.lr_scale})
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2))


def train(
    config: TrainConfig, clips: Clips, val_clips: Clips, start: Start | None = None
) -> dict[str, Any]:
    """Train to `config.steps`; writes out/model.safetensors, metrics.jsonl and summary.json.

    Args:
        config: sizes, weights of the losses, schedule.
        clips: training episodes.
        val_clips: held-out episodes.
        start: a pretrained encoder; None: a small one is trained from nothing.

    Raises:
        ConfigError: too few clips for a batch.
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
    scales = measure_scales(clips, config.seed)
    names = (
        "rollout_steps",
        "rollout",
        "variance",
        "covariance",
        "inverse",
        "state",
        "object",
        "augment",
        "hue_deg",
        "pattern",
    )
    weights = ObjectiveConfig(**{n: getattr(config, n) for n in names})
    world = build_world(config, scales, start).to(device)
    if device.type == "cpu":
        optimize_for_cpu(world)
    joint = start is None or not start.frozen
    objective = Objective(world, weights, joint=joint).to(device)
    optimizer = optimised(objective, config, start)
    rng = np.random.default_rng(config.seed)
    chosen = rng.choice(len(val_clips), size=min(256, len(val_clips)), replace=False)
    held_out = _tensors(val_clips.batch(chosen), device)

    def batches(step: int) -> Iterator[dict[str, Tensor]]:
        yield _tensors(
            clips.batch(batch_indices(len(clips), config.batch_size, step, config.seed)), device
        )

    def on_log(step: int) -> dict[str, float]:
        if step % config.eval_every and step + 1 != last:
            return {}
        row = validate(objective, held_out)
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
        tensorboard=config.tensorboard,
    )
    row = run_loop(
        model=objective,
        optimizer=optimizer,
        loss_fn=lambda batch, _: objective(batch),
        batches=batches,
        config=loop,
        out=out,
        on_log=on_log,
        learning_rate=lambda step: warmup_flat_cosine(
            step, peak=config.lr, total=config.steps, warmup=0.05, flat=0.6, floor=0.02
        ),
    )
    uses_label = "yes" if config.object and joint else "no"
    save(
        out / "model.safetensors", world, notes={"simulator_label": uses_label}, dtype=torch.float16
    )
    summary = {
        "last": row,
        "clips": len(clips),
        "parameters": sum(p.numel() for p in world.parameters()),
        "minutes": (time.perf_counter() - started) / 60,
        "simulator_label": uses_label,
        "options": vars(config),
        "model": to_dict(world.config),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    return summary
