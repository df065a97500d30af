"""Options of training runs: one class per mode, with only the options it uses.

The groups of options are in the modules `worldmodel.training.*_options`, by concept. None of them
imports torch, so that `--help` is fast.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.training.clip_options import (
    ClipConfig,
    ClipLength,
    ContactClipConfig,
    PostClipConfig,
)
from worldmodel.training.image_options import (
    CosineConfig,
    ImageConfig,
    ImageEncoderConfig,
    ImageLoopConfig,
    ImageMask,
    ImageMomentumConfig,
    ImagePredictorSizes,
    ImageRunConfig,
)
from worldmodel.training.loss_options import (
    AugmentationConfig,
    ColourConfig,
    HeadConfig,
    MemoryRolloutConfig,
    PlanCheckConfig,
    RegularizerConfig,
    RolloutConfig,
)
from worldmodel.training.macro_options import MacroOptions
from worldmodel.training.network_options import (
    BlockConfig,
    DynamicsSizes,
    EncoderStart,
    PredictorSizes,
    SmallEncoderConfig,
    WorldStart,
)
from worldmodel.training.pretrain_options import (
    DenseConfig,
    MaskConfig,
    MomentumConfig,
    PretrainEncoderConfig,
    PretrainLoopConfig,
    ShapesConfig,
)
from worldmodel.training.run_options import (
    LaunchConfig,
    LoopConfig,
    OptimizerConfig,
    OutputConfig,
    RunConfig,
    TrapezoidConfig,
)

PUBLISHED_ROLLOUT = 2
"""Steps of the published rollout, which a clip of two frames shortens to one."""


def check_rollout(objective: RolloutConfig, num_frames: int) -> None:
    """Check that clips are long enough for the rollout loss.

    Raises:
        ConfigError: The rollout is longer than a clip's actions.
    """
    steps = objective.rollout_steps
    if objective.rollout and steps > max(PUBLISHED_ROLLOUT, num_frames - 1):
        raise ConfigError(
            f"rollout_steps={steps} is longer than the {num_frames - 1} actions of a clip with "
            f"num_frames={num_frames}: set num_frames={steps + 1} or more, or lower rollout_steps"
        )


def _check_targets(objective: str, dense: DenseConfig) -> None:
    """Check that a run whose targets are averaged over blocks predicts latents.

    Raises:
        ConfigError: It predicts something else.
    """
    if objective != "latent" and dense.target_blocks > 1:
        raise ConfigError(
            f"target_blocks={dense.target_blocks} has no effect with objective={objective}, which "
            "predicts no latents: leave it out"
        )


@dataclass(frozen=True, kw_only=True)
class _PredictorRun(Checked):
    """The groups of every run that trains an action-conditioned predictor."""

    recipe: str = ""
    """Recipe in configs/train, or a .yaml file; other options override its values."""
    run: RunConfig = field(default_factory=RunConfig)
    predictor: DynamicsSizes = field(default_factory=DynamicsSizes)
    objective: RolloutConfig = field(default_factory=RolloutConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    planning: PlanCheckConfig = field(default_factory=PlanCheckConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)


@dataclass(frozen=True, kw_only=True)
class _MemoryRun(_PredictorRun):
    """The groups of runs on episodes that fit in memory."""

    clips: ContactClipConfig = field(default_factory=ContactClipConfig)
    objective: MemoryRolloutConfig = field(default_factory=MemoryRolloutConfig)
    object_head: HeadConfig = field(default_factory=HeadConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rollout(self.objective, self.clips.num_frames)


@dataclass(frozen=True, kw_only=True)
class JointOptions(_MemoryRun):
    """`mode=joint`: train a small encoder and its predictor from scratch."""

    mode: Literal["joint"] = "joint"
    """Training mode; a recipe sets its own."""
    encoder: SmallEncoderConfig = field(default_factory=SmallEncoderConfig)
    regularizers: RegularizerConfig = field(default_factory=RegularizerConfig)


@dataclass(frozen=True, kw_only=True)
class FrozenOptions(_MemoryRun):
    """`mode=frozen`: train a small predictor on a frozen pretrained encoder."""

    mode: Literal["frozen"] = "frozen"
    """Training mode; a recipe sets its own."""
    start: WorldStart = field(default_factory=WorldStart)
    cache_latents: bool = False
    """Encode every frame once, before the first step, and keep the tokens in memory; excludes
    augmentation."""

    def __post_init__(self) -> None:
        """Reject augmentation of frames that are encoded only once.

        Raises:
            ConfigError: An option is out of range or has no effect.
        """
        super().__post_init__()
        augmented = dataclasses.asdict(self.augmentation)
        if self.cache_latents and any(augmented.values()):
            raise ConfigError(
                f"cache_latents=true encodes frames once, without augmentation, and {augmented} is "
                "set: set augment=0 hue_deg=0 pattern=0"
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(_MemoryRun):
    """`mode=finetune`: train a pretrained encoder and a small predictor together."""

    mode: Literal["finetune"] = "finetune"
    """Training mode; a recipe sets its own."""
    start: WorldStart = field(default_factory=WorldStart)
    encoder_lr_scale: float = field(default=0.3, metadata=between(0, 100))
    """Factor on the encoder's learning rate."""
    regularizers: RegularizerConfig = field(default_factory=RegularizerConfig)


@dataclass(frozen=True, kw_only=True)
class PostOptions(_PredictorRun):
    """`mode=post`: the published post-training of a predictor on a frozen encoder."""

    mode: Literal["post"] = "post"
    """Training mode; a recipe sets its own."""
    clips: PostClipConfig = field(default_factory=PostClipConfig)
    start: EncoderStart = field(default_factory=EncoderStart)
    schedule: TrapezoidConfig = field(default_factory=TrapezoidConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(val_clips=32))
    blocks: BlockConfig = field(default_factory=BlockConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rollout(self.objective, self.clips.num_frames)


@dataclass(frozen=True, kw_only=True)
class VideoPretrainOptions(Checked):
    """The groups of every run that pretrains an encoder of clips."""

    recipe: str = ""
    """Recipe in configs/pretrain, or a .yaml file; other options override its values."""
    run: OutputConfig = field(default_factory=OutputConfig)
    clips: ClipLength = field(default_factory=ClipLength)
    encoder: PretrainEncoderConfig = field(default_factory=PretrainEncoderConfig)
    predictor: PredictorSizes = field(
        default_factory=lambda: PredictorSizes(
            predictor_dim=96, predictor_depth=3, predictor_heads=3
        )
    )
    masks: MaskConfig = field(default_factory=MaskConfig)
    dense: DenseConfig = field(default_factory=DenseConfig)
    target: MomentumConfig = field(default_factory=MomentumConfig)
    augmentation: ColourConfig = field(default_factory=ColourConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=6e-4))
    schedule: TrapezoidConfig = field(
        default_factory=lambda: TrapezoidConfig(lr_start=1e-4, lr_end=1e-6, warmup=300, decay=600)
    )
    loop: PretrainLoopConfig = field(default_factory=PretrainLoopConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(VideoPretrainOptions):
    """`worldmodel pretrain`: train a video encoder by masked prediction, without labels."""

    mode: Literal["clips"] = "clips"
    """Data: clips of recorded episodes; a recipe may set its own."""
    run: RunConfig = field(default_factory=lambda: RunConfig(out="runs/pretrain"))
    clips: ClipConfig = field(default_factory=ClipConfig)
    objective: Literal["latent", "pixels"] = "latent"
    """What is learned. latent: masked prediction of the moving average's tokens (V-JEPA); pixels:
    masked prediction of each patch's pixels, by the same networks."""
    probe_frames: int = field(default=768, metadata=between(8, 10_000_000, "frames"))
    """Number of frames to fit the linear probe on at a validation."""

    def __post_init__(self) -> None:
        """Reject options without effect.

        Raises:
            ConfigError: An option is out of range or has no effect.
        """
        super().__post_init__()
        _check_targets(self.objective, self.dense)


@dataclass(frozen=True, kw_only=True)
class ShapesPretrainOptions(VideoPretrainOptions):
    """`worldmodel pretrain mode=shapes`: train a small video encoder on made clips."""

    mode: Literal["shapes"] = "shapes"
    """Data: made clips of moving shapes; a recipe may set its own."""
    run: OutputConfig = field(default_factory=lambda: OutputConfig(out="runs/shapes"))
    clips: ShapesConfig = field(default_factory=ShapesConfig)
    augmentation: ColourConfig = field(default_factory=lambda: ColourConfig(augment=0.0))
    objective: Literal["latent", "pixels", "labels"] = "latent"
    """What is learned. latent: masked prediction of the moving average's tokens (V-JEPA); pixels:
    masked prediction of each patch's pixels, by the same networks; labels: the clips' classes and
    positions, without masks, as a bound for the others."""
    probe_clips: int = field(default=768, metadata=between(64, 1_000_000, "clips"))
    """Number of clips to fit the linear probes on at a validation."""
    cuda_graph: bool = False
    """On a CUDA device, record losses and gradients of each shape of a batch as a CUDA graph, which
    saves the time in which the device waits for the host; excludes accumulate, colour augmentation,
    sigreg and a rise of context_loss."""

    def __post_init__(self) -> None:
        """Reject options without effect, and what a recorded step would repeat, not recompute.

        Raises:
            ConfigError: An option is out of range, has no effect or excludes cuda_graph.
        """
        super().__post_init__()
        colours, dense = self.augmentation, self.dense
        changing = {"augment": colours.augment, "hue_deg": colours.hue_deg}
        changing |= {"context_until": dense.context_until, "accumulate": self.loop.accumulate - 1}
        changing |= {"sigreg": dense.sigreg}
        wrong = [name for name, value in changing.items() if value]
        _check_targets(self.objective, dense)
        if self.objective == "labels" and dense.sigreg:
            raise ConfigError(
                f"sigreg={dense.sigreg:g} has no effect with objective=labels: leave it out"
            )
        if self.cuda_graph and wrong:
            raise ConfigError(
                f"cuda_graph=true records a step and repeats it, which excludes {', '.join(wrong)}:"
                " leave them out, or set cuda_graph=false"
            )


@dataclass(frozen=True, kw_only=True)
class ImagePretrainOptions(Checked):
    """`worldmodel pretrain mode=images`: I-JEPA's pretraining on a folder of images."""

    recipe: str = ""
    """Recipe in configs/pretrain, or a .yaml file; other options override its values."""
    mode: Literal["images"] = "images"
    """Data: images; a recipe may set its own."""
    run: ImageRunConfig = field(default_factory=ImageRunConfig)
    images: ImageConfig = field(default_factory=ImageConfig)
    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    predictor: ImagePredictorSizes = field(default_factory=ImagePredictorSizes)
    masks: ImageMask = field(default_factory=ImageMask)
    target: ImageMomentumConfig = field(default_factory=ImageMomentumConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-3, beta2=0.999)
    )
    schedule: CosineConfig = field(default_factory=CosineConfig)
    loop: ImageLoopConfig = field(default_factory=ImageLoopConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)


PredictorOptions: TypeAlias = JointOptions | FrozenOptions | FinetuneOptions | PostOptions
"""Options of runs that train an action-conditioned predictor."""
TrainOptions: TypeAlias = PredictorOptions | MacroOptions
"""Options of `worldmodel train`."""
AnyPretrainOptions: TypeAlias = PretrainOptions | ShapesPretrainOptions | ImagePretrainOptions
"""Options of `worldmodel pretrain`."""
AnyOptions: TypeAlias = TrainOptions | AnyPretrainOptions
"""Options of any training run."""

MODES: dict[str, type[TrainOptions]] = {
    "joint": JointOptions,
    "post": PostOptions,
    "frozen": FrozenOptions,
    "finetune": FinetuneOptions,
    "macro": MacroOptions,
}
"""Options class of each mode of `worldmodel train`."""

PRETRAIN_MODES: dict[str, type[AnyPretrainOptions]] = {
    "clips": PretrainOptions,
    "images": ImagePretrainOptions,
    "shapes": ShapesPretrainOptions,
}
"""Options class of each mode of `worldmodel pretrain`."""
