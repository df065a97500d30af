"""Groups of training options; `worldmodel.training.config` composes them into one class a mode.

This module imports no torch, so that the command line can show its help quickly. The text under a
field is its help. Fields may carry `min` and `max` in their metadata; every class checks its values
when it is made and raises `ConfigError`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked
from worldmodel.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RunConfig(Checked):
    """Where a run reads and writes, its seed and its device."""

    data: str = "runs/data/train"
    """Folder of the training episodes."""
    val: str = "runs/data/val"
    """Folder of the held-out episodes."""
    out: str = "runs/train"
    """Folder for checkpoints, metrics, the report and the exported model."""
    seed: int = field(default=0, metadata={"min": 0})
    """Seed of the initial weights, the data order, masks and augmentation."""
    device: str = "auto"
    """Device: auto (CUDA if present), cpu, cuda or cuda:N."""
    threads: int = field(default=0, metadata={"min": 0, "max": 1024})
    """CPU threads of torch; 0 leaves torch's own choice."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Checked):
    """AdamW."""

    lr: float = field(default=1e-3, metadata={"min": 0.0})
    """Peak learning rate."""
    weight_decay: float = field(default=0.04, metadata={"min": 0.0})
    """Weight decay of matrices; vectors have none."""
    beta2: float = field(default=0.98, metadata={"min": 0.0, "max": 0.999999})
    """AdamW's second beta."""
    clip_norm: float = field(default=1.0, metadata={"min": 0.0})
    """Maximum gradient norm; longer gradients are scaled down to it."""


@dataclass(frozen=True, kw_only=True)
class TrapezoidConfig(Checked):
    """Learning rate with a linear warm-up, a constant part and a linear decay."""

    lr_start: float = field(default=7.5e-5, metadata={"min": 0.0})
    """Learning rate at the first step."""
    lr_end: float = field(default=0.0, metadata={"min": 0.0})
    """Learning rate at the last step."""
    warmup: int = field(default=4500, metadata={"min": 0, "unit": "steps"})
    """Steps from lr_start to lr."""
    decay: int = field(default=4500, metadata={"min": 0, "unit": "steps"})
    """Last steps, from lr to lr_end; 0 keeps lr to the end."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Checked):
    """Length, batch and bookkeeping of a run."""

    steps: int = field(default=12000, metadata={"min": 1, "unit": "steps"})
    """Optimiser steps of the whole run; the schedule depends on it."""
    stop_after: int = field(default=0, metadata={"min": 0, "unit": "steps"})
    """Stop after this many steps without changing the schedule; 0 runs to the end."""
    batch_size: int = field(default=64, metadata={"min": 1, "unit": "clips"})
    """Clips of one optimiser step, over all processes."""
    accumulate: int = field(default=1, metadata={"min": 1})
    """Micro-batches of one optimiser step, to save memory. Terms that are statistics over a batch
    (variance, covariance) are computed in each micro-batch."""
    bf16: bool = True
    """Compute in bfloat16 by autocast; weights stay float32."""
    save_every: int = field(default=500, metadata={"min": 1, "unit": "steps"})
    """Steps between checkpoints."""
    log_every: int = field(default=50, metadata={"min": 1, "unit": "steps"})
    """Steps between rows of metrics.jsonl."""
    eval_every: int = field(default=500, metadata={"min": 1, "unit": "steps"})
    """Steps between validations; they fall on logged steps."""
    val_clips: int = field(default=256, metadata={"min": 1, "unit": "clips"})
    """Held-out clips of a validation."""
    tensorboard: bool = False
    """Also write TensorBoard events, in groups train/ and val/."""

    @property
    def last_step(self) -> int:
        """Return the number of steps after which the loop ends."""
        return min(self.stop_after, self.steps) if self.stop_after else self.steps


@dataclass(frozen=True, kw_only=True)
class PretrainLoopConfig(LoopConfig):
    """Length, batch and bookkeeping of a pretraining run, which may have no step at all."""

    steps: int = field(default=3000, metadata={"min": 0, "unit": "steps"})
    """Optimiser steps of the whole run; 0 exports the encoder with its initial weights."""
    batch_size: int = field(default=32, metadata={"min": 1, "unit": "clips"})
    """Clips of one optimiser step, over all processes."""
    val_clips: int = field(default=128, metadata={"min": 1, "unit": "clips"})
    """Held-out clips of a validation."""


@dataclass(frozen=True, kw_only=True)
class LaunchConfig(Checked):
    """Processes of a run: this one, those of torchrun, or a job of a scheduler."""

    launcher: Literal["here", "slurm", "local"] = "here"
    """Where processes run: here (this process, or torchrun's), slurm (a job), or local (the same
    job on this machine)."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes hold the weights: ddp keeps them whole in each, fsdp shards them."""
    nodes: int = field(default=1, metadata={"min": 1, "max": 4096})
    """Machines of the job; needs launcher=slurm."""
    processes_per_node: int = field(default=1, metadata={"min": 1, "max": 1024})
    """Processes on each machine, one for each GPU; needs a launcher."""
    minutes: int = field(default=60, metadata={"min": 1, "unit": "minutes"})
    """Time limit of the job; needs a launcher."""
    partition: str = ""
    """Slurm partition; needs launcher=slurm."""

    def __post_init__(self) -> None:
        """Refuse job options that the launcher would not use.

        Raises:
            ConfigError: The message names the option and the launcher that uses it.
        """
        super().__post_init__()
        unused = {
            "here": ("nodes", "processes_per_node", "minutes", "partition"),
            "local": ("nodes", "partition"),
            "slurm": (),
        }[self.launcher]
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        for name in unused:
            value = getattr(self, name)
            if value != defaults[name]:
                raise ConfigError(
                    f"{name}={value} has no effect with launcher={self.launcher}: leave it out, or "
                    "say launcher=slurm (processes_per_node and minutes: also launcher=local)"
                )


@dataclass(frozen=True, kw_only=True)
class _AnyClips(Checked):
    """What clips of every kind of run are cut by."""

    num_frames: int = field(default=4, metadata={"min": 2, "unit": "frames"})
    """Frames of a clip."""
    fps: float = field(default=4.0, metadata={"min": 0.01, "max": 1000.0, "unit": "1/s"})
    """Frames a second; faster recordings are thinned by their timestamps."""
    transform: Literal["droid", "published", "squeeze"] = "droid"
    """Image transform: droid crops to an aspect ratio of 1.35 and squeezes, published crops the
    centre, squeeze takes the whole frame."""
    camera: str = "left"
    """Camera: left, right, wrist or a serial number."""
    max_reject_fraction: float = field(default=0.5, metadata={"min": 0.0, "max": 1.0})
    """Stop when the index rejected a larger share of the episodes."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig(_AnyClips):
    """Clips cut from episodes that fit in memory."""

    cache: str = ""
    """Folder for decoded frames; empty uses the default cache folder."""


@dataclass(frozen=True, kw_only=True)
class PostClipConfig(_AnyClips):
    """Clips of raw or prepared episodes of any size."""

    state_frame: Literal["flange", "tcp"] = "flange"
    """Frame of the recorded states: the flange, or the tool centre point."""
    extrinsics: bool = False
    """Give the predictor a token for the camera's pose."""
    idle: Literal["keep", "drop"] = "keep"
    """Keep or drop clips with steps at which movement was not enabled."""
    make_data: int = field(default=0, metadata={"min": 0, "unit": "episodes"})
    """Write this many synthetic episodes under out/data and train on them; 0 uses data."""
    workers: int = field(default=2, metadata={"min": 1, "max": 1024})
    """Threads that decode clips."""


@dataclass(frozen=True, kw_only=True)
class SmallEncoderConfig(Checked):
    """A small encoder with a convolutional stem that sees each frame alone."""

    image_size: int = field(default=128, metadata={"min": 8, "unit": "px"})
    """Height and width of a frame."""
    patch_size: int = field(default=128, metadata={"min": 1, "unit": "px"})
    """Height and width of the pixels that make one token."""
    stem_channels: tuple[int, ...] = field(default=(16, 32, 64, 96), metadata={"min": 1})
    """Output channels of the stem's stride-2 convolutions."""
    encoder_dim: int = field(default=256, metadata={"min": 1})
    """Width of a token."""
    encoder_depth: int = field(default=1, metadata={"min": 1})
    """Transformer blocks after the stem."""
    encoder_heads: int = field(default=4, metadata={"min": 1})
    """Attention heads of the encoder."""


@dataclass(frozen=True, kw_only=True)
class PredictorSizes(Checked):
    """Size of the predictor."""

    predictor_dim: int = field(default=256, metadata={"min": 1})
    """Width of the predictor's tokens."""
    predictor_depth: int = field(default=4, metadata={"min": 1})
    """Transformer blocks of the predictor."""
    predictor_heads: int = field(default=4, metadata={"min": 1})
    """Attention heads of the predictor."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Checked):
    """Prediction losses: teacher forcing has weight 1, the rollout has its own."""

    rollout: float = field(default=1.0, metadata={"min": 0.0})
    """Weight of the rollout loss."""
    rollout_steps: int = field(default=2, metadata={"min": 1})
    """Imagined steps of the rollout loss (published: 2)."""


@dataclass(frozen=True, kw_only=True)
class RegularizerConfig(Checked):
    """Terms that keep a latent alive and useful while its encoder learns; 0 leaves a term out."""

    variance: float = field(default=1.0, metadata={"min": 0.0})
    """Weight of the hinge on each feature's spread (VICReg)."""
    covariance: float = field(default=0.05, metadata={"min": 0.0})
    """Weight of the covariances between features (VICReg)."""
    inverse: float = field(default=0.5, metadata={"min": 0.0})
    """Weight of decoding the action from two neighbouring latents."""
    state: float = field(default=0.5, metadata={"min": 0.0})
    """Weight of decoding the robot's own state from the latent."""
    object: float = field(default=0.0, metadata={"min": 0.0})
    """Weight of decoding the object's position, a label that only a simulator has."""


@dataclass(frozen=True, kw_only=True)
class ColourConfig(Checked):
    """Augmentation by colour, the same for all frames of a clip."""

    augment: float = field(default=0.1, metadata={"min": 0.0, "max": 1.0})
    """Standard deviation of the random brightness and colour gains."""
    hue_deg: float = field(default=0.0, metadata={"min": 0.0, "max": 180.0, "unit": "deg"})
    """Maximum random rotation of the hues."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(ColourConfig):
    """Augmentation by colours and patterns, the same for all frames of a clip."""

    pattern: float = field(default=0.0, metadata={"min": 0.0, "max": 1.0})
    """Maximum relative change of brightness by a random pattern that stays still."""


@dataclass(frozen=True, kw_only=True)
class EncoderStart(Checked):
    """The pretrained encoder that a run starts from."""

    encoder: str = ""
    """Model name, file, folder, hf:NAME (transformers), or random:SIZE for untrained weights."""
    image_size: int = field(default=0, metadata={"min": 0, "unit": "px"})
    """Height and width of a frame; 0 takes the encoder's own, another size than its own is
    refused."""


@dataclass(frozen=True, kw_only=True)
class PlanCheckConfig(Checked):
    """Planning of recorded moves at a validation, which gives the action error."""

    plan_clips: int = field(default=4, metadata={"min": 0, "unit": "clips"})
    """Held-out clips whose first move is planned and compared with the recorded one; 0: none."""


@dataclass(frozen=True, kw_only=True)
class BlockConfig(Checked):
    """How the predictor's blocks are executed."""

    checkpoint_activations: bool = False
    """Recompute the predictor's blocks in the backward pass, to save memory."""
    compile: bool = False
    """Compile each block of the predictor with torch.compile."""


@dataclass(frozen=True, kw_only=True)
class MaskConfig(Checked):
    """Multi-block masks of the pretraining."""

    short_blocks: int = field(default=8, metadata={"min": 1})
    """Short-range mask: blocks of a clip."""
    short_scale: float = field(default=0.15, metadata={"min": 0.001, "max": 1.0})
    """Short-range mask: share of a frame in one block."""
    long_blocks: int = field(default=2, metadata={"min": 1})
    """Long-range mask: blocks of a clip."""
    long_scale: float = field(default=0.7, metadata={"min": 0.001, "max": 1.0})
    """Long-range mask: share of a frame in one block."""


@dataclass(frozen=True, kw_only=True)
class MomentumConfig(Checked):
    """Moving average of the encoder, which gives the targets and is exported."""

    momentum: float = field(default=0.99925, metadata={"min": 0.0, "max": 1.0})
    """Momentum at the first step."""
    momentum_end: float = field(default=0.99925, metadata={"min": 0.0, "max": 1.0})
    """Momentum at the last step; linear between."""


@dataclass(frozen=True, kw_only=True)
class PretrainEncoderConfig(Checked):
    """The encoder to pretrain: an existing one, a published size, or the sizes given here."""

    init: str = ""
    """Continue from this encoder (name or file) in place of random weights; the sizes below are
    then the encoder's."""
    size: str = ""
    """A published size (vit_tiny, vit_small, ...) in place of encoder_dim, encoder_depth and
    encoder_heads."""
    image_size: int = field(default=128, metadata={"min": 8, "unit": "px"})
    """Height and width of a frame."""
    stem: Literal["conv", "patch"] = "conv"
    """Kind of the stem: stride-2 convolutions (conv) or one strided convolution (patch)."""
    stem_channels: tuple[int, ...] = field(default=(16, 48, 96, 128), metadata={"min": 1})
    """With stem=conv: output channels of the stride-2 convolutions."""
    patch_size: int = field(default=32, metadata={"min": 1, "unit": "px"})
    """Height and width of the pixels that make one token."""
    tubelet_size: int = field(default=1, metadata={"min": 1, "unit": "frames"})
    """Frames that make one token; 1 with stem=conv."""
    encoder_dim: int = field(default=128, metadata={"min": 1})
    """Width of a token."""
    encoder_depth: int = field(default=2, metadata={"min": 1})
    """Transformer blocks of the encoder."""
    encoder_heads: int = field(default=4, metadata={"min": 1})
    """Attention heads of the encoder."""
