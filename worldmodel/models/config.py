"""Sizes of the networks: frozen, keyword-only, validated dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldmodel.errors import ConfigError
from worldmodel.specs import require_number, require_numbers

RopeLayout = Literal["tiled", "interleaved"]


MAX_DEPTH, MAX_WIDTH, MAX_COUNT = 1024, 2**16, 2**20
"""Largest block count, token width and other count that a description may ask for."""


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


def _require_transformer(
    owner: str, config: EncoderConfig | PredictorConfig | MaskedPredictorConfig | ProbeConfig
) -> None:
    """Check width, depth, heads and MLP ratio of a stack of blocks.

    Raises:
        ConfigError: a number is out of range, or the heads do not divide the width.
    """
    require_number(f"{owner} embed_dim", config.embed_dim, 1, MAX_WIDTH, whole=True)
    require_number(f"{owner} depth", config.depth, 0, MAX_DEPTH, whole=True)
    require_number(f"{owner} num_heads", config.num_heads, 1, MAX_WIDTH, whole=True)
    require_number(f"{owner} mlp_ratio", config.mlp_ratio, 1e-3, 1024)
    _require(
        config.embed_dim % config.num_heads == 0,
        f"{owner} embed_dim={config.embed_dim} is not divisible by num_heads={config.num_heads}: "
        "choose a head count that divides the width",
    )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of a video vision transformer; `models.encoder.preset` has the published ones."""

    image_size: tuple[int, int] = (256, 256)
    """Height and width at which the model was trained [px]; others are accepted."""
    num_frames: int = 64
    """Number of frames of a training clip."""
    patch_size: int = 16
    """Side of a patch [px]."""
    tubelet_size: int = 2
    """Number of frames of a token."""
    embed_dim: int = 1024
    """Width of a token."""
    depth: int = 24
    """Number of transformer blocks."""
    num_heads: int = 16
    """Number of attention heads; divides `embed_dim`."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over `embed_dim`."""
    position: Literal["rope", "sincos"] = "rope"
    """Position embedding: rotary (V-JEPA 2 and 2.1) or a fixed sin-cos table (V-JEPA 1)."""
    rope: RopeLayout = "tiled"
    """Angle layout: tiled for V-JEPA 2, interleaved for V-JEPA 2.1 and our own models."""
    interpolate_rope: bool = False
    """Scale row and column positions to the 16 x 16 grid (V-JEPA 2.1)."""
    modality_embedding: bool = False
    """Learnable image and video embeddings plus a tubelet-1 image path (V-JEPA 2.1)."""
    norm_blocks: tuple[int, ...] = ()
    """Blocks after which a LayerNorm of its own is read out (V-JEPA 2.1); () = one final norm."""
    stem: Literal["patch", "conv"] = "patch"
    """One strided convolution, or stride-2 3x3 convolutions before the patch projection."""
    stem_channels: tuple[int, ...] = ()
    """Output channels of each stride-2 convolution of the conv stem."""
    affine_norm: bool = True
    """False: the final LayerNorm has no weights (the small model)."""

    def __post_init__(self) -> None:
        _require_transformer("encoder", self)
        require_number("num_frames", self.num_frames, 1, MAX_COUNT, whole=True)
        require_number("patch_size", self.patch_size, 1, 4096, whole=True)
        require_number("tubelet_size", self.tubelet_size, 1, 64, whole=True)
        require_numbers("image_size", self.image_size, 2, 1, 2**14)
        require_numbers("norm_blocks", self.norm_blocks, len(self.norm_blocks), 0, MAX_DEPTH)
        require_numbers("stem_channels", self.stem_channels, len(self.stem_channels), 1, MAX_WIDTH)
        down = 2 ** len(self.stem_channels)
        _require(
            self.stem == "patch" or self.patch_size % down == 0,
            f"patch_size {self.patch_size} must be a multiple of the conv stem's stride {down}",
        )


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Sizes of an action-conditioned predictor (V-JEPA 2-AC)."""

    grid: tuple[int, int] = (16, 16)
    """Patch rows and columns of one frame."""
    encoder_dim: int = 1408
    """Width of the encoder's tokens."""
    embed_dim: int = 1024
    """Width of the predictor's own tokens."""
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_frames: int = 64
    """Number of frames of the longest clip that the predictor takes."""
    action_dim: int = 7
    """Length of the action vector."""
    state_dim: int = 7
    """Length of the state vector."""
    use_extrinsics: bool | None = False
    """Add a token for the camera's pose; None adds it when the call passes a pose (a V-JEPA 2-AC
    file holds these weights whether or not the model was trained with them)."""
    use_state: bool = True
    """Add a token for the robot's state (JEPA-WMs' retrained predictor has none)."""
    has_extrinsics_encoder: bool = True
    """Create the weights for the camera's pose, used or not, as in the published files."""
    rope: RopeLayout = "tiled"
    """Angle layout, as of the encoder."""
    residual: bool = False
    """Predict the change of the frame's tokens instead of the tokens (the small model)."""
    embed_init_std: float = 0.02
    """Initial spread of the action and state embeddings (0.3 in the small model)."""

    def __post_init__(self) -> None:
        _require_transformer("predictor", self)
        require_numbers("grid", self.grid, 2, 1, 2**12)
        require_number("encoder_dim", self.encoder_dim, 1, MAX_WIDTH, whole=True)
        require_number("num_frames", self.num_frames, 1, MAX_COUNT, whole=True)
        require_number("action_dim", self.action_dim, 1, 1024, whole=True)
        require_number("state_dim", self.state_dim, 1, 1024, whole=True)
        require_number("embed_init_std", self.embed_init_std, 0, 1e3)


@dataclass(frozen=True, kw_only=True)
class MaskedPredictorConfig:
    """Sizes of the masked predictor of pretraining (V-JEPA 1, 2 and 2.1)."""

    grid: tuple[int, int, int] = (32, 16, 16)
    """Tubelets, patch rows and patch columns of the clip that token ids count in."""
    encoder_dim: int = 1024
    """Width of the context tokens (V-JEPA 2.1 g, G: the four levels, concatenated)."""
    out_dim: int = 1024
    """Width of the predictions (V-JEPA 2.1 B, L: the teacher's)."""
    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    num_mask_tokens: int = 10
    position: Literal["rope", "sincos"] = "rope"
    rope: RopeLayout = "tiled"
    modality_embedding: bool = False
    """V-JEPA 2.1: learnable image and video embeddings on all tokens."""
    predict_context: bool = False
    """V-JEPA 2.1: a second output at the context tokens."""
    embed_hidden: int = 0
    """V-JEPA 2.1 g, G: hidden width of the Linear-GELU-Linear embedding; 0 = one Linear."""

    def __post_init__(self) -> None:
        _require_transformer("masked predictor", self)
        require_numbers("grid", self.grid, 3, 1, 2**12)
        require_number("encoder_dim", self.encoder_dim, 1, MAX_WIDTH, whole=True)
        require_number("out_dim", self.out_dim, 1, MAX_WIDTH, whole=True)
        require_number("num_mask_tokens", self.num_mask_tokens, 0, 1024, whole=True)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Sizes of an attentive probe: a pooler and a linear classifier."""

    embed_dim: int = 1024
    num_heads: int = 16
    depth: int = 4
    """Attention blocks; the last one is the cross attention of the query."""
    mlp_ratio: float = 4.0
    num_queries: int = 1
    num_classes: int = 174
    """Number of classes; 174 are those of Something-Something v2."""
    norm_eps: float = 1e-5
    """LayerNorm's epsilon, torch's default in the published probes."""

    def __post_init__(self) -> None:
        _require_transformer("probe", self)
        require_number("num_queries", self.num_queries, 1, 2**14, whole=True)
        require_number("num_classes", self.num_classes, 1, MAX_COUNT, whole=True)
        require_number("norm_eps", self.norm_eps, 0, 1)


@dataclass(frozen=True, kw_only=True)
class TransformersConfig:
    """A backbone of the `transformers` package, rebuilt without a network from its own settings."""

    settings: str
    """The backbone's configuration as JSON, as `config.to_json_string()` writes it."""
    image_size: tuple[int, int]
    """Height and width that the backbone takes [px]."""
    patch_size: int
    """Side of a patch [px]."""
    embed_dim: int
    """Width of a token."""
    tubelet_size: int = 1
    """Frames of one token: 1 for image backbones (DINOv2), 2 for VideoMAE."""

    def __post_init__(self) -> None:
        require_number("patch_size", self.patch_size, 1, 1024, whole=True)
        require_number("embed_dim", self.embed_dim, 1, 2**16, whole=True)
        require_number("tubelet_size", self.tubelet_size, 1, 16, whole=True)
