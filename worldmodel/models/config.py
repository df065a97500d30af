"""Sizes and conventions of a model: frozen, keyword-only, checked when made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from worldmodel.errors import ConfigError
from worldmodel.specs import ActionSpec, ObservationSpec

RopeLayout = Literal["tiled", "interleaved"]


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Video vision transformer. Presets of the published sizes are in `models.encoder`."""

    image_size: tuple[int, int] = (256, 256)
    """Height and width [px] the model was trained at; other sizes are accepted."""
    num_frames: int = 64
    """Frames of a training clip."""
    patch_size: int = 16
    tubelet_size: int = 2
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    position: Literal["rope", "sincos"] = "rope"
    """Rotary embedding (V-JEPA 2, 2.1) or fixed sin-cos (V-JEPA 1)."""
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
        _require(
            self.embed_dim % self.num_heads == 0,
            f"embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}: "
            "choose a head count that divides the width",
        )
        down = 2 ** len(self.stem_channels)
        _require(
            self.stem == "patch" or self.patch_size % down == 0,
            f"patch_size {self.patch_size} must be a multiple of the conv stem's stride {down}",
        )


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Action-conditioned predictor (V-JEPA 2-AC)."""

    grid: tuple[int, int] = (16, 16)
    """Patch rows and columns of one frame."""
    encoder_dim: int = 1408
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_frames: int = 64
    """Longest clip (frames) whose rotary tables are kept."""
    action_dim: int = 7
    state_dim: int = 7
    use_extrinsics: bool | None = False
    """A token for the camera's pose; None: when the call passes one (a V-JEPA 2-AC file holds the
    encoder whether or not the model was trained with it)."""
    use_state: bool = True
    """A token for the robot's state (JEPA-WMs' retrained predictor has none)."""
    has_extrinsics_encoder: bool = True
    """The weights for the camera's pose exist, used or not (as in the published files)."""
    rope: RopeLayout = "tiled"
    residual: bool = False
    """Predict the change of the frame's tokens instead of the tokens (the small model)."""
    embed_init_std: float = 0.02
    """Initial spread of the action and state embeddings (0.3 in the small model)."""

    def __post_init__(self) -> None:
        _require(
            self.embed_dim % self.num_heads == 0,
            f"predictor embed_dim {self.embed_dim} is not divisible by num_heads "
            f"{self.num_heads}: choose a head count that divides the width",
        )


@dataclass(frozen=True, kw_only=True)
class MaskedPredictorConfig:
    """Masked predictor of the pretraining (V-JEPA 1, 2, 2.1)."""

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
        _require(
            self.embed_dim % self.num_heads == 0,
            f"predictor embed_dim {self.embed_dim} is not divisible by num_heads "
            f"{self.num_heads}: choose a head count that divides the width",
        )


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Attentive probe: pooler and linear classifier."""

    embed_dim: int = 1024
    num_heads: int = 16
    depth: int = 4
    """Attention blocks; the last one is the cross attention of the query."""
    mlp_ratio: float = 4.0
    num_queries: int = 1
    num_classes: int = 174
    norm_eps: float = 1e-5
    """LayerNorm's epsilon, torch's default in the published probes."""

    def __post_init__(self) -> None:
        _require(
            self.embed_dim % self.num_heads == 0,
            f"probe embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}: "
            "choose a head count that divides the width",
        )


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What numbers and pixels mean to a model; stored with every checkpoint."""

    step_seconds: float = 0.25
    """Time between two frames that one action spans [s]."""
    state_frame: Literal["flange", "tcp"] = "flange"
    gripper: Literal["difference", "command"] = "difference"
    """Action's last number: change of closedness, or the command -1 open, 0 keep, +1 close."""
    frames_per_token: Literal[1, 2] = 2
    """Each frame is encoded alone; 2 = repeated as a two-frame tubelet (V-JEPA 2-AC)."""
    normalise_tokens: bool = True
    """LayerNorm without affine on encoder tokens and on predictions."""
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    state_scale: tuple[float, ...] = (1.0,) * 7
    """States are divided by this after `state_offset` is taken off [m, rad, closedness]."""
    state_offset: tuple[float, ...] = (0.0,) * 7
    action_scale: tuple[float, ...] = (1.0,) * 7
    wrap_angles: bool = False
    """Bring state angles within pi of `state_offset` before scaling (a tool that points down sits
    on the branch of its roll angle)."""
    max_step_m: float = 0.075

    def observation_spec(self, image_size: tuple[int, int], transform: Any) -> ObservationSpec:
        """The observation part, for an encoder of `image_size` pixels."""
        return ObservationSpec(
            image_size=image_size,
            transform=transform,
            frames_per_token=self.frames_per_token,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            state_frame=self.state_frame,
        )

    def action_spec(self) -> ActionSpec:
        """The action part."""
        return ActionSpec(
            gripper=self.gripper, period_s=self.step_seconds, max_step_m=self.max_step_m
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All that is needed to rebuild a world model before its weights are read."""

    encoder: EncoderConfig
    predictor: PredictorConfig
    convention: Convention = Convention()


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """All that is needed to rebuild a video model (an encoder alone)."""

    encoder: EncoderConfig
    convention: Convention = Convention()


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON-able dictionary of a config."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Any], values: dict[str, Any]) -> Any:
    """Rebuild a config of `kind`; unknown or missing names are a ConfigError."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    _require(
        not unknown,
        f"{kind.__name__} has no option {unknown}; known: {sorted(fields)}. "
        "The file was written by another version: convert it again",
    )
    nested = {"encoder": EncoderConfig, "predictor": PredictorConfig, "convention": Convention}
    made = {}
    for name, value in values.items():
        if name in nested:
            made[name] = from_dict(nested[name], value)
        else:
            made[name] = tuple(value) if isinstance(value, list) else value
    return kind(**made)
