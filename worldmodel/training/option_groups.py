"""Groups of training options, composed in `worldmodel.training.config` to one class per mode.

This module does not import torch, so that `--help` is fast. The docstring under a field is its help
text. Every number declares its range; every class validates its values on construction and raises
`ConfigError`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.specs import chosen_views

Experiment = Literal["none", "tensorboard", "trackio", "wandb"]
"""Experiment trackers; see `worldmodel.training.experiment`."""
MAX_STEPS, MAX_WIDTH, MAX_DEPTH = 1_000_000_000, 2**16, 1024
"""Largest numbers of steps, width of a token and number of blocks."""


@dataclass(frozen=True, kw_only=True)
class OutputConfig(Checked):
    """Output folder, seed and device of a run."""

    out: str = "runs/train"
    """Folder for checkpoints, metrics, the report and the exported model."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the initial weights, data order, masks and augmentation."""
    device: str = "auto"
    """Device: auto (CUDA if present), cpu, cuda or cuda:N."""
    threads: int = field(default=0, metadata=between(0, 256))
    """Number of CPU threads (0: torch's default)."""
    resume: Literal["same", "force"] = "same"
    """Whether the checkpoints in `out` must be of a run with the same options and data (same), or
    may be of another one, which the metrics then record (force)."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(OutputConfig):
    """Input and output folders, seed and device of a run."""

    data: str = "runs/data/train"
    """Folder of the training episodes."""
    val: str = "runs/data/val"
    """Folder of the held-out episodes."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Checked):
    """AdamW."""

    lr: float = field(default=1e-3, metadata=between(1e-12, 10))
    """Peak learning rate."""
    weight_decay: float = field(default=0.04, metadata=between(0, 10))
    """Weight decay of matrices; biases and norms have none."""
    beta2: float = field(default=0.98, metadata=between(0, 0.999999))
    """AdamW's second beta."""
    clip_norm: float = field(default=1.0, metadata=between(1e-6, 1e6))
    """Gradient norm above which gradients are clipped."""


@dataclass(frozen=True, kw_only=True)
class TrapezoidConfig(Checked):
    """Learning rate schedule: linear warm-up, constant, linear decay."""

    lr_start: float = field(default=7.5e-5, metadata=between(0, 10))
    """Learning rate at the first step."""
    lr_end: float = field(default=0.0, metadata=between(0, 10))
    """Learning rate at the last step."""
    warmup: int = field(default=4500, metadata=between(0, MAX_STEPS, "steps"))
    """Number of warm-up steps from lr_start to lr."""
    decay: int = field(default=4500, metadata=between(0, MAX_STEPS, "steps"))
    """Number of final steps from lr to lr_end (0: constant lr)."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Checked):
    """Length, batch size and logging intervals of a run."""

    steps: int = field(default=12000, metadata=between(1, MAX_STEPS, "steps"))
    """Number of optimiser steps of the whole run, which sets the schedule."""
    stop_after: int = field(default=0, metadata=between(0, MAX_STEPS, "steps"))
    """Stop after this many steps without changing the schedule (0: run to the end)."""
    batch_size: int = field(default=64, metadata=between(1, 1_000_000, "clips"))
    """Number of clips per optimiser step, over all processes."""
    accumulate: int = field(default=1, metadata=between(1, 1_000_000))
    """Number of micro-batches per optimiser step, to save memory. Batch statistics (variance,
    covariance) are computed per micro-batch."""
    bf16: bool = True
    """Compute in bfloat16 by autocast; weights stay float32."""
    save_every: int = field(default=500, metadata=between(1, MAX_STEPS, "steps"))
    """Number of steps between checkpoints."""
    log_every: int = field(default=50, metadata=between(1, MAX_STEPS, "steps"))
    """Number of steps between rows of metrics.jsonl."""
    eval_every: int = field(default=500, metadata=between(1, MAX_STEPS, "steps"))
    """Number of steps between validations, each of which is a row of metrics.jsonl."""
    val_clips: int = field(default=256, metadata=between(1, 1_000_000, "clips"))
    """Number of held-out clips per validation."""
    experiment: Experiment = "none"
    """Tracker that gets the metrics as well, in groups train/ and val/: TensorBoard in
    out/tensorboard, or trackio or W&B (packages of their own), stored on this machine."""

    @property
    def last_step(self) -> int:
        """Return the number of steps after which the loop ends."""
        return min(self.stop_after, self.steps) if self.stop_after else self.steps


@dataclass(frozen=True, kw_only=True)
class PretrainLoopConfig(LoopConfig):
    """Length, batch size and logging intervals of a pretraining run, which may have 0 steps."""

    steps: int = field(default=3000, metadata=between(0, MAX_STEPS, "steps"))
    """Number of optimiser steps of the whole run (0: export the initial encoder)."""
    batch_size: int = field(default=32, metadata=between(1, 1_000_000, "clips"))
    """Number of clips per optimiser step, over all processes."""
    val_clips: int = field(default=128, metadata=between(1, 1_000_000, "clips"))
    """Number of held-out clips per validation."""


@dataclass(frozen=True, kw_only=True)
class LaunchConfig(Checked):
    """Processes of a run: this process, those of torchrun, or a scheduler job."""

    launcher: Literal["here", "slurm", "local"] = "here"
    """Where processes run: here (this process, or torchrun's), slurm (a cluster job), or local (the
    same job on this machine)."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Parallelism: ddp replicates the weights in every process, fsdp shards them."""
    nodes: int = field(default=1, metadata=between(1, 4096))
    """Number of machines; requires launcher=slurm."""
    processes_per_node: int = field(default=1, metadata=between(1, 1024))
    """Number of processes per machine, one per GPU; requires launcher=slurm or local."""
    minutes: int = field(default=60, metadata=between(1, 525_600, "minutes"))
    """Time limit of the job; requires launcher=slurm or local."""
    partition: str = ""
    """Slurm partition; requires launcher=slurm."""
    gpus_per_node: int | None = field(default=None, metadata=between(0, 1024))
    """Number of GPUs per machine (default: one per process, none with device=cpu); requires
    launcher=slurm."""
    cpus_per_process: int = field(default=8, metadata=between(1, 4096))
    """Number of CPU cores per process; requires launcher=slurm."""
    mem_gb: int = field(default=0, metadata=between(0, 100_000, "GB"))
    """Memory per machine (0: all that it has); requires launcher=slurm."""

    def __post_init__(self) -> None:
        """Reject job options that the launcher would ignore.

        Raises:
            ConfigError: An option has no effect; the message names it and the launcher that uses
                it.
        """
        super().__post_init__()
        cluster = ("nodes", "partition", "gpus_per_node", "cpus_per_process", "mem_gb")
        unused = {
            "here": (*cluster, "processes_per_node", "minutes"),
            "local": cluster,
            "slurm": (),
        }[self.launcher]
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        for name in unused:
            value = getattr(self, name)
            if value != defaults[name]:
                raise ConfigError(
                    f"{name}={value} has no effect with launcher={self.launcher}: leave it out, or "
                    "set launcher=slurm (processes_per_node and minutes: also launcher=local)"
                )


@dataclass(frozen=True, kw_only=True)
class ClipLength(Checked):
    """Length of the clips of a run."""

    num_frames: int = field(default=4, metadata=between(2, 4096, "frames"))
    """Number of frames per clip."""


@dataclass(frozen=True, kw_only=True)
class _AnyClips(ClipLength):
    """What clips of every kind of run are cut by."""

    fps: float = field(default=4.0, metadata=between(0.01, 1000, "1/s"))
    """Frame rate; faster recordings are subsampled by their timestamps."""
    transform: Literal["droid", "published", "squeeze"] = "droid"
    """Image transform: droid crops to an aspect ratio of 1.35 and squeezes, published crops the
    centre, squeeze uses the whole frame."""
    camera: str = "left"
    """Camera: left, right, wrist or a serial number."""
    links: Literal["inside", "all"] | None = None
    """Whether links in the data must stay inside the data set, or may lead anywhere (all, for your
    own links); default: as the data were indexed, else inside."""
    rlds_fps: float | None = field(default=None, metadata=between(0.1, 1000, "Hz"))
    """Control rate of an RLDS data set, which stores no timestamps; default: as the data were
    indexed, else 15 Hz."""
    max_reject_fraction: float = field(default=0.5, metadata=between(0, 1))
    """Maximum fraction of rejected episodes; above it the run stops."""


@dataclass(frozen=True, kw_only=True)
class _ViewClips(_AnyClips):
    """Clips of one or several views."""

    views: tuple[str, ...] = ()
    """Cameras that the model sees, the main one first, such as left,wrist; goals are images of the
    main one (empty: camera alone)."""

    def __post_init__(self) -> None:
        """Check that camera and views agree.

        Raises:
            ConfigError: an option is out of range, or the views contradict the camera.
        """
        super().__post_init__()
        _ = self.cameras

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the cameras that the model sees, the main one first."""
        return chosen_views(self.camera, self.views)


@dataclass(frozen=True, kw_only=True)
class ClipConfig(_AnyClips):
    """Clips of episodes that fit in memory."""

    cache: str = ""
    """Folder for decoded frames (empty: the default cache folder)."""


@dataclass(frozen=True, kw_only=True)
class ContactClipConfig(ClipConfig, _ViewClips):
    """Clips of episodes that fit in memory, with a minimum share of contacts."""

    actions: Literal["pose", "position"] = "pose"
    """Numbers of states and actions: pose (7, with rotation), or position (4: x, y, z and gripper)
    for an arm that never turns."""
    contact_share: float = field(default=0.0, metadata=between(0, 0.95))
    """Minimum share of clips in which the fingers hold or may touch an object, as the robot states
    tell; such clips are repeated as often as that needs (0: every clip once)."""
    hindsight_share: float = field(default=0.0, metadata=between(0, 0.95))
    """Minimum share of clips that start with an object on the table, away from the fingers, whose
    pose hindsight tells; such clips are repeated as often as that needs (0: every clip once)."""
    more_data: tuple[str, ...] = ()
    """Further folders of training episodes, mixed with those of data. contact_share and
    hindsight_share apply to data alone."""
    more_shares: tuple[float, ...] = field(default=(), metadata=between(0.001, 0.999))
    """Share of all training clips for each folder of more_data; the rest are those of data. Clips
    of folders below their share are repeated; every clip occurs at least once."""
    keep_on: Literal["auto", "host", "device"] = "auto"
    """Where decoded frames, or tokens, stay during the training: in the host's memory, on the
    device, or on a CUDA device if they take at most half of its free memory (auto)."""

    def __post_init__(self) -> None:
        """Check that each further folder has a share.

        Raises:
            ConfigError: an option is out of range, or the shares do not fit the folders.
        """
        super().__post_init__()
        if len(self.more_data) != len(self.more_shares) or sum(self.more_shares) >= 1:
            raise ConfigError(
                f"more_data={list(self.more_data)} more_shares={list(self.more_shares)}; allowed: "
                "one share for each folder, with a sum below 1, which leaves the rest to data"
            )


@dataclass(frozen=True, kw_only=True)
class PostClipConfig(_ViewClips):
    """Clips of raw or prepared episodes of any size."""

    actions: Literal["pose", "position"] = "pose"
    """Numbers of states and actions: pose (7, with rotation), or position (4: x, y, z and gripper)
    for an arm that never turns."""
    state_frame: Literal["flange", "tcp"] = "flange"
    """Frame of the robot states: flange or tool centre point."""
    extrinsics: bool = False
    """Add a predictor token for the camera pose."""
    idle: Literal["keep", "drop"] = "keep"
    """Keep or drop clips with steps at which movement was not enabled."""
    make_data: int = field(default=0, metadata=between(0, 1_000_000, "episodes"))
    """Number of synthetic episodes to write to out/data and train on (0: use data)."""
    workers: int = field(default=2, metadata=between(1, 1024))
    """Number of decoding threads."""


def _check_patches(image_size: int, patch_size: int) -> None:
    """Check that whole patches fill a frame.

    Raises:
        ConfigError: They do not; the message names both options.
    """
    if image_size % patch_size:
        raise ConfigError(
            f"patch_size={patch_size} does not divide image_size={image_size}: give an image_size "
            f"that is a multiple of it, or another patch_size (at most {image_size})"
        )


@dataclass(frozen=True, kw_only=True)
class SmallEncoderConfig(Checked):
    """A small single-frame encoder with a convolutional stem."""

    image_size: int = field(default=128, metadata=between(8, 4096, "px"))
    """Height and width of the frames."""
    patch_size: int = field(default=128, metadata=between(1, 4096, "px"))
    """Patch size per token."""
    stem_channels: tuple[int, ...] = field(default=(16, 32, 64, 96), metadata=between(1, MAX_WIDTH))
    """Output channels of the stem's stride-2 convolutions."""
    encoder_dim: int = field(default=256, metadata=between(1, MAX_WIDTH))
    """Width of a token."""
    encoder_depth: int = field(default=1, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks after the stem."""
    encoder_heads: int = field(default=4, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the encoder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_patches(self.image_size, self.patch_size)


@dataclass(frozen=True, kw_only=True)
class PredictorSizes(Checked):
    """Size of the predictor."""

    predictor_dim: int = field(default=256, metadata=between(1, MAX_WIDTH))
    """Width of the predictor's tokens."""
    predictor_depth: int = field(default=4, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks of the predictor."""
    predictor_heads: int = field(default=4, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the predictor."""


@dataclass(frozen=True, kw_only=True)
class DynamicsSizes(PredictorSizes):
    """Size and conditioning of the action-conditioned predictor."""

    conditioning: Literal["tokens", "adaln"] = "tokens"
    """Path of action and robot state into the predictor. tokens: tokens of their frame, as
    published; adaln: scales, shifts and gates of every block, without such tokens (JEPA-WMs)."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Checked):
    """Prediction losses; teacher forcing has weight 1."""

    rollout: float = field(default=1.0, metadata=between(0, 1e6))
    """Weight of the rollout loss."""
    rollout_steps: int = field(default=2, metadata=between(1, 1024))
    """Number of predicted steps in the rollout loss (published: 2)."""


@dataclass(frozen=True, kw_only=True)
class MemoryRolloutConfig(RolloutConfig):
    """Prediction losses of runs on episodes in memory."""

    rollout_kind: Literal["published", "free"] = "published"
    """Kind of rollout. published: after one teacher-forced step, with recorded robot states, and
    the whole past computed again at each step; free: from the first frame alone, as the planner
    imagines, with cached keys and values and robot states that follow from the actions."""
    rollout_restart: float = field(default=0.0, metadata=between(0, 1))
    """Probability that a free rollout forgets its past at a random step, as long plans do; requires
    rollout_kind=free."""
    teacher_forcing: float = field(default=1.0, metadata=between(0, 1000))
    """Weight of the teacher-forced loss; the published rollout needs it above 0."""
    predict_state: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of predicting the next robot state beside the next frame, which only training uses (0:
    not predicted); requires rollout_kind=free."""

    def __post_init__(self) -> None:
        """Reject options that the kind of rollout would ignore.

        Raises:
            ConfigError: an option is out of range or has no effect.
        """
        super().__post_init__()
        if self.rollout_kind == "published" and self.rollout_restart:
            raise ConfigError(
                f"rollout_restart={self.rollout_restart:g} has no effect with "
                "rollout_kind=published: leave it out, or set rollout_kind=free"
            )
        if self.rollout_kind == "published" and self.predict_state:
            raise ConfigError(
                f"predict_state={self.predict_state:g} has no effect with rollout_kind=published: "
                "leave it out, or set rollout_kind=free"
            )
        if self.rollout_kind == "published" and not self.teacher_forcing:
            raise ConfigError(
                "teacher_forcing=0 needs rollout_kind=free: the published rollout starts with a "
                "teacher-forced step"
            )


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Checked):
    """Object head, which decodes the poses of objects from the latent."""

    head_weight: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of decoding object poses from encoded and from imagined frames (0: no object head)."""
    head_label: Literal["hindsight", "simulator"] = "hindsight"
    """Source of the poses that the object head learns. hindsight: the robot states tell, after a
    grasp, where the grasped object was; no label of a simulator. simulator: a label from the
    simulator, the poses of all objects in all frames; the model's file then says so."""
    head_match: float = field(default=0.0, metadata=between(0, 1000))
    """Weight of the difference between the object positions decoded from imagined and from encoded
    frames; needs an object head."""

    def __post_init__(self) -> None:
        """Reject a label that nothing learns.

        Raises:
            ConfigError: an option is out of range or has no effect.
        """
        super().__post_init__()
        if self.head_label == "simulator" and not self.head_weight:
            raise ConfigError(
                "head_label=simulator has no effect with head_weight=0: leave it out, or set "
                "head_weight above 0"
            )

    @property
    def uses_simulator(self) -> bool:
        """Whether the head learns from a simulator's label."""
        return self.head_weight > 0 and self.head_label == "simulator"


@dataclass(frozen=True, kw_only=True)
class RegularizerConfig(Checked):
    """Regularisers that prevent collapse while the encoder is trained; 0 disables a term."""

    variance: float = field(default=1.0, metadata=between(0, 1e6))
    """Weight of the variance hinge (VICReg)."""
    covariance: float = field(default=0.05, metadata=between(0, 1e6))
    """Weight of the covariance term (VICReg)."""
    inverse: float = field(default=0.5, metadata=between(0, 1e6))
    """Weight of decoding the action from two consecutive latents."""
    state: float = field(default=0.5, metadata=between(0, 1e6))
    """Weight of decoding the robot state from the latent."""
    object: float = field(default=0.0, metadata=between(0, 1e6))
    """Weight of decoding the object position, a label from simulators only."""


@dataclass(frozen=True, kw_only=True)
class ColourConfig(Checked):
    """Colour augmentation, the same for all frames of a clip."""

    augment: float = field(default=0.1, metadata=between(0, 1))
    """Standard deviation of the random brightness and colour gains."""
    hue_deg: float = field(default=0.0, metadata=between(0, 180, "deg"))
    """Maximum random hue rotation."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(ColourConfig):
    """Colour and pattern augmentation, the same for all frames of a clip."""

    pattern: float = field(default=0.0, metadata=between(0, 1))
    """Maximum relative change of brightness by a static random pattern."""


@dataclass(frozen=True, kw_only=True)
class EncoderStart(Checked):
    """Pretrained encoder that a run starts from."""

    encoder: str = ""
    """Model name, file, folder, hf:NAME (transformers), random:SIZE for untrained weights, or your
    own as module:Class."""
    image_size: int = field(default=0, metadata=between(0, 4096, "px"))
    """Height and width of the frames (0: the encoder's); any other size is rejected."""


@dataclass(frozen=True, kw_only=True)
class WorldStart(EncoderStart):
    """Pretrained encoder or world model that a run starts from."""

    warm_predictor: bool = False
    """Continue from the predictor, the scales and the object head of encoder=, which then is a
    world model; false builds a new predictor."""


@dataclass(frozen=True, kw_only=True)
class PlanCheckConfig(Checked):
    """Planning check at validations, which gives the action error."""

    plan_clips: int = field(default=4, metadata=between(0, 1_000_000, "clips"))
    """Number of held-out clips whose first move and turn are planned and compared with the recorded
    ones."""


@dataclass(frozen=True, kw_only=True)
class BlockConfig(Checked):
    """Execution of the predictor's blocks."""

    checkpoint_activations: bool = False
    """Recompute the predictor's blocks in the backward pass, to save memory."""
    compile: bool = False
    """Compile the predictor's blocks with torch.compile: on CUDA, their parts beside attention
    where that measures faster; on a CPU and for conditioning=adaln, whole blocks."""


@dataclass(frozen=True, kw_only=True)
class MaskConfig(Checked):
    """Multi-block masks of pretraining."""

    short_blocks: int = field(default=8, metadata=between(1, 1024))
    """Short-range mask: number of blocks per clip."""
    short_scale: float = field(default=0.15, metadata=between(0.001, 1))
    """Short-range mask: fraction of a frame per block."""
    long_blocks: int = field(default=2, metadata=between(1, 1024))
    """Long-range mask: number of blocks per clip."""
    long_scale: float = field(default=0.7, metadata=between(0.001, 1))
    """Long-range mask: fraction of a frame per block."""
    alternate: bool = False
    """Train on one kind of mask per step, in turn, instead of on both, at half the cost."""
    max_targets: int = field(default=0, metadata=between(0, 2**20, "tokens"))
    """Maximum number of hidden tokens per clip to predict, drawn at random (0: all)."""


@dataclass(frozen=True, kw_only=True)
class MomentumConfig(Checked):
    """Moving average of the encoder, which provides the targets and is exported."""

    momentum: float = field(default=0.99925, metadata=between(0, 1))
    """Momentum at the first step."""
    momentum_end: float = field(default=0.99925, metadata=between(0, 1))
    """Momentum at the last step; it changes linearly."""


@dataclass(frozen=True, kw_only=True)
class PretrainEncoderConfig(Checked):
    """Encoder to pretrain: an existing one, a published size, or custom sizes."""

    init: str = ""
    """Encoder to continue from (name or file) instead of random weights; it then sets all sizes."""
    predictor_init: str = ""
    """Published name or file whose masked predictor to continue from instead of random weights; it
    then sets the predictor's sizes. The trained mask tokens are the family's: V-JEPA 2 uses token 0
    for both kinds of mask."""
    size: str = ""
    """Published size (vit_tiny, vit_small, ...) instead of encoder_dim, encoder_depth and
    encoder_heads."""
    image_size: int = field(default=128, metadata=between(8, 4096, "px"))
    """Height and width of the frames."""
    stem: Literal["conv", "patch"] = "conv"
    """Stem: stride-2 convolutions (conv) or one strided convolution (patch)."""
    stem_channels: tuple[int, ...] = field(
        default=(16, 48, 96, 128), metadata=between(1, MAX_WIDTH)
    )
    """Output channels of the stride-2 convolutions, with stem=conv."""
    patch_size: int = field(default=32, metadata=between(1, 4096, "px"))
    """Patch size per token."""
    tubelet_size: int = field(default=1, metadata=between(1, 64, "frames"))
    """Number of frames per token; 1 with stem=conv."""
    encoder_dim: int = field(default=128, metadata=between(1, MAX_WIDTH))
    """Width of a token."""
    encoder_depth: int = field(default=2, metadata=between(1, MAX_DEPTH))
    """Number of transformer blocks of the encoder."""
    encoder_heads: int = field(default=4, metadata=between(1, MAX_WIDTH))
    """Number of attention heads of the encoder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.init:
            _check_patches(self.image_size, self.patch_size)
