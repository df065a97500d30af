"""Sizes of the networks: frozen, keyword-only, validated dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between
from worldmodel.errors import ConfigError
from worldmodel.specs import MAX_VIEWS

RopeLayout = Literal["tiled", "interleaved"]
Conditioning = Literal["tokens", "adaln"]
Position = Literal["rope", "sincos", "sincos_2d"]

MAX_DEPTH, MAX_WIDTH, MAX_COUNT = 1024, 2**16, 2**20
"""Maximum block count, token width and other count that a description may ask for."""
DEPTH, WIDTH, COUNT = between(0, MAX_DEPTH), between(1, MAX_WIDTH), between(1, MAX_COUNT)
RATIO, DIM = between(1e-3, 1024), between(1, 1024)


class _Transformer(Checked):
    """Base class of configurations with a stack of transformer blocks."""

    embed_dim: int
    num_heads: int

    @property
    def is_rotary(self) -> bool:
        """Whether positions are rotary embeddings of each head's pairs of channels."""
        return hasattr(self, "rope") and getattr(self, "position", "rope") == "rope"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"{self.owner} embed_dim={self.embed_dim} is not divisible by "
                f"num_heads={self.num_heads}: choose a head count that divides the width"
            )
        if self.is_rotary and self.embed_dim // self.num_heads % 2:
            raise ConfigError(
                f"{self.owner} embed_dim={self.embed_dim} gives each of num_heads={self.num_heads} "
                f"{self.embed_dim // self.num_heads} channels; rotary positions need an even number"
            )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(_Transformer):
    """Sizes of a video vision transformer; see `models.encoder.preset` for published ones."""

    owner = "encoder"

    image_size: tuple[int, int] = field(default=(256, 256), metadata=between(1, 2**14))
    """Training image height and width [px]; other sizes are accepted."""
    num_frames: int = field(default=64, metadata=COUNT)
    """Number of frames per training clip."""
    patch_size: int = field(default=16, metadata=between(1, 4096))
    """Side of a patch [px]."""
    tubelet_size: int = field(default=2, metadata=between(1, 64))
    """Number of frames per token."""
    embed_dim: int = field(default=1024, metadata=WIDTH)
    """Width of a token."""
    depth: int = field(default=24, metadata=DEPTH)
    """Number of transformer blocks."""
    num_heads: int = field(default=16, metadata=WIDTH)
    """Number of attention heads; divides `embed_dim`."""
    mlp_ratio: float = field(default=4.0, metadata=RATIO)
    """Ratio of the MLP's hidden width to `embed_dim`."""
    position: Position = "rope"
    """Position embedding: rotary (V-JEPA 2 and 2.1), or a fixed sin-cos table of a clip (V-JEPA 1)
    or of an image (sincos_2d, I-JEPA)."""
    rope: RopeLayout = "tiled"
    """Angle layout: tiled for V-JEPA 2, interleaved for V-JEPA 2.1 and our own models."""
    interpolate_rope: bool = False
    """Whether to scale row and column positions to the 16 x 16 grid (V-JEPA 2.1)."""
    modality_embedding: bool = False
    """Whether to have learnable image and video embeddings and a tubelet-1 image path (V-JEPA
    2.1)."""
    norm_blocks: tuple[int, ...] = field(default=(), metadata=DEPTH)
    """Blocks whose outputs have a separate LayerNorm (V-JEPA 2.1); () uses one final norm."""
    stem: Literal["patch", "conv"] = "patch"
    """Stem: one strided convolution, or stride-2 3x3 convolutions before the patch projection."""
    stem_channels: tuple[int, ...] = field(default=(), metadata=WIDTH)
    """Output channels of each stride-2 convolution of the conv stem."""
    affine_norm: bool = True
    """Whether the final LayerNorm has weights; False in the small model."""
    norm_eps: float = field(default=1e-6, metadata=between(0, 1))
    """Epsilon of all LayerNorms of the blocks and of the final one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.position == "sincos_2d" and (self.tubelet_size != 1 or self.embed_dim % 4):
            raise ConfigError(
                f"position=sincos_2d with tubelet_size={self.tubelet_size} and embed_dim="
                f"{self.embed_dim}: a table of an image needs tubelet_size=1 and a multiple of 4"
            )
        if self.patch_size > min(self.image_size):
            raise ConfigError(
                f"patch_size={self.patch_size} is larger than image_size={self.image_size}: a "
                "frame must hold at least one patch"
            )
        stride = 2 ** len(self.stem_channels)
        if self.stem == "conv" and self.patch_size % stride:
            raise ConfigError(
                f"patch_size {self.patch_size} must be a multiple of the conv stem's stride "
                f"{stride}"
            )


@dataclass(frozen=True, kw_only=True)
class PredictorConfig(_Transformer):
    """Sizes of an action-conditioned predictor (V-JEPA 2-AC)."""

    owner = "predictor"

    grid: tuple[int, int] = field(default=(16, 16), metadata=between(1, 2**12))
    """Patch rows and columns of a frame."""
    encoder_dim: int = field(default=1408, metadata=WIDTH)
    """Width of the encoder's tokens."""
    embed_dim: int = field(default=1024, metadata=WIDTH)
    """Width of the predictor's own tokens."""
    depth: int = field(default=24, metadata=DEPTH)
    num_heads: int = field(default=16, metadata=WIDTH)
    mlp_ratio: float = field(default=4.0, metadata=RATIO)
    num_views: int = field(default=1, metadata=between(1, MAX_VIEWS))
    """Number of cameras whose tokens a frame holds, one view behind the other."""
    num_frames: int = field(default=64, metadata=COUNT)
    """Maximum number of frames per clip."""
    action_dim: int = field(default=7, metadata=DIM)
    """Length of the action vector."""
    state_dim: int = field(default=7, metadata=DIM)
    """Length of the state vector."""
    use_extrinsics: bool | None = False
    """Whether to add a token for the camera pose; None adds it if the call passes a pose (V-JEPA
    2-AC files hold these weights even if the model was trained without them)."""
    use_state: bool = True
    """Whether to add a token for the robot state (JEPA-WMs' retrained predictor has none)."""
    has_extrinsics_encoder: bool = True
    """Whether to create the camera pose weights even if unused, as in the published files."""
    rope: RopeLayout = "tiled"
    """Angle layout, as in the encoder."""
    residual: bool = False
    """Whether to predict the change of the tokens instead of the tokens (the small model)."""
    embed_init_std: float = field(default=0.02, metadata=between(0, 1e3))
    """Initial standard deviation of the action and state embeddings (0.3 in the small model)."""
    conditioning: Conditioning = "tokens"
    """Path of action, state and camera pose into the network: as tokens of their frame (published),
    or as scales, shifts and gates of every block's norms (adaln, JEPA-WMs), without such tokens."""
    predict_state: bool = False
    """Whether to also predict the next robot state, which only training uses."""

    @property
    def num_tokens(self) -> int:
        """Return the number of patch tokens of a frame, of all views."""
        return self.num_views * self.grid[0] * self.grid[1]


@dataclass(frozen=True, kw_only=True)
class MacroConfig(Checked):
    """Sizes and units of a macro dynamics."""

    predictor: PredictorConfig
    """Slow predictor; its actions are codes, and it has no state."""
    span: int = field(default=8, metadata=between(2, 256))
    """Number of actions of a macro-action."""
    num_actions: int = field(default=7, metadata=DIM)
    """Length of an action."""
    hidden_dim: int = field(default=256, metadata=WIDTH)
    """Width of the two hidden layers of the encoder of actions."""
    num_sequences: int = field(default=1024, metadata=between(2, 2**16))
    """Number of recorded sequences of actions that it holds."""
    action_scale: tuple[float, ...] = field(default=(1.0,) * 7, metadata=between(1e-6, 1e6))
    """Divisor of each action component."""
    normalise_tokens: bool = True
    """Whether to apply LayerNorm without weights to predictions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.action_scale) != self.num_actions:
            raise ConfigError(
                f"action_scale holds {len(self.action_scale)} numbers; use {self.num_actions}"
            )
        if self.predictor.use_state or self.predictor.use_extrinsics:
            raise ConfigError("The predictor of macro-actions takes no state and no camera pose")


@dataclass(frozen=True, kw_only=True)
class MaskedPredictorConfig(_Transformer):
    """Sizes of the masked predictor for pretraining (V-JEPA 1, 2 and 2.1)."""

    owner = "masked predictor"

    grid: tuple[int, int, int] = field(default=(32, 16, 16), metadata=between(1, 2**12))
    """Tubelets, patch rows and patch columns that define the token ids."""
    encoder_dim: int = field(default=1024, metadata=WIDTH)
    """Width of the context tokens (V-JEPA 2.1 g, G: the four levels, concatenated)."""
    out_dim: int = field(default=1024, metadata=WIDTH)
    """Width of the predictions (V-JEPA 2.1 B, L: the teacher's)."""
    embed_dim: int = field(default=384, metadata=WIDTH)
    depth: int = field(default=12, metadata=DEPTH)
    num_heads: int = field(default=12, metadata=WIDTH)
    mlp_ratio: float = field(default=4.0, metadata=RATIO)
    num_mask_tokens: int = field(default=10, metadata=between(0, 1024))
    mask_token_per_kind: bool = True
    """Whether each kind of mask has its own mask token (V-JEPA 1, our own models). False: only
    token 0 was trained (V-JEPA 2's pretraining numbers them by clip length; I-JEPA has one)."""
    position: Position = "rope"
    rope: RopeLayout = "tiled"
    modality_embedding: bool = False
    """Whether to add learnable image and video embeddings to all tokens (V-JEPA 2.1)."""
    predict_context: bool = False
    """Whether to have a second output at the context tokens (V-JEPA 2.1)."""
    embed_hidden: int = field(default=0, metadata=between(0, MAX_WIDTH))
    """Hidden width of the Linear-GELU-Linear embedding (V-JEPA 2.1 g, G); 0 uses one Linear."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(_Transformer):
    """Sizes of an attentive probe: a pooler and a linear classifier."""

    owner = "probe"

    embed_dim: int = field(default=1024, metadata=WIDTH)
    num_heads: int = field(default=16, metadata=WIDTH)
    depth: int = field(default=4, metadata=DEPTH)
    """Attention blocks: one cross-attention block, the others are self-attention blocks."""
    self_attention_on: Literal["tokens", "queries"] = "tokens"
    """Self-attention on the tokens before the cross-attention (V-JEPA 2), or on the queries after
    it (V-JEPA 1)."""
    complete_block: bool = True
    """False: the cross-attention alone, without residual, norms and MLP (V-JEPA 1)."""
    mlp_ratio: float = field(default=4.0, metadata=RATIO)
    num_queries: int = field(default=1, metadata=between(1, 2**14))
    num_classes: int = field(default=174, metadata=COUNT)
    """Number of classes; 174 for Something-Something v2."""
    norm_eps: float = field(default=1e-5, metadata=between(0, 1))
    """LayerNorm epsilon; torch's default in the published probes."""


@dataclass(frozen=True, kw_only=True)
class ObjectHeadConfig(Checked):
    """Sizes and units of an object head."""

    token_dim: int = field(default=256, metadata=WIDTH)
    """Width of the tokens it reads."""
    num_tokens: int = field(default=1, metadata=between(1, 4096))
    """Number of tokens of a frame."""
    num_slots: int = field(default=2, metadata=between(1, 64))
    """Number of objects it can tell apart."""
    hidden_dim: int = field(default=256, metadata=WIDTH)
    """Width of its two hidden layers."""
    centre_m: tuple[float, float, float] = field(
        default=(0.5, 0.0, 0.05), metadata=between(-10, 10, "m")
    )
    """Centre of the positions in the robot base frame."""
    scale_m: float = field(default=0.1, metadata=between(1e-6, 10, "m"))
    """Unit of the decoded positions."""


@dataclass(frozen=True, kw_only=True)
class OwnEncoderConfig(Checked):
    """Sizes of a frame encoder of a user's class; a file holds its weights, never its code."""

    image_size: tuple[int, int] = field(metadata=between(1, 2**14))
    """Height and width of its input images [px]."""
    patch_size: int = field(metadata=DIM)
    """Side of the part of the image that a token describes [px]."""
    embed_dim: int = field(metadata=WIDTH)
    """Width of a token."""
    tubelet_size: int = field(default=1, metadata=between(1, 16))
    """Number of frames per token."""
    code: str = ""
    """`module:Class` that a command named for it; messages show it, and nothing imports it."""


@dataclass(frozen=True, kw_only=True)
class TransformersConfig(Checked):
    """A backbone of the `transformers` package, rebuilt offline from its own settings."""

    settings: str
    """The backbone's configuration as JSON, from `config.to_json_string()`."""
    image_size: tuple[int, int] = field(metadata=between(1, 2**14))
    """Height and width of the backbone's input images [px]."""
    patch_size: int = field(metadata=DIM)
    """Side of a patch [px]."""
    embed_dim: int = field(metadata=WIDTH)
    """Width of a token."""
    tubelet_size: int = field(default=1, metadata=between(1, 16))
    """Number of frames per token: 1 for image backbones (DINOv2), 2 for VideoMAE."""
