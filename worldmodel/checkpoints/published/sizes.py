"""Infer sizes and family of a published part from its tensors, and build the empty model."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass

from torch import Tensor, nn

from worldmodel.checkpoints.published.positions import table_grid
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import (
    EncoderConfig,
    MaskedPredictorConfig,
    PredictorConfig,
    ProbeConfig,
    RopeLayout,
)
from worldmodel.models.encoder import PRESETS, VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.models.probe import AttentiveClassifier

log = logging.getLogger(__name__)
Tensors = dict[str, Tensor]
ENCODER_HEADS = {(width, depth): heads for width, depth, heads, _ in PRESETS.values()}
MASKED_HEADS = {(384, 12): 12, (384, 24): 12}
AC_HEADS = {(1024, 24): 16}
PROBE_HEADS = {1024: 16, 1280: 16, 1408: 16}
"""Number of heads of every probe, independent of its encoder. Source: published recipes."""
LEVELS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 40: (9, 19, 29, 39), 48: (11, 23, 37, 47)}
"""Depth -> blocks whose outputs have a separate LayerNorm (V-JEPA 2.1)."""


@dataclass(frozen=True)
class LoadOverrides:
    """Settings from the caller or config.json; None defers to the tensors or the family."""

    num_heads: int | None
    """Number of attention heads."""
    image_size: tuple[int, int]
    """Height and width of the images [px]."""
    num_frames: int
    """Frames of a clip."""
    rope: RopeLayout | None
    """Rotary layout."""
    norm_eps: float | None
    """Layer norm epsilon."""
    full_ac: bool
    """Whether state and extrinsics encoders are always present, as in V-JEPA 2-AC's own files."""


def _shape(tensors: Tensors, key: str, rank: int, where: str) -> tuple[int, ...]:
    if key not in tensors:
        raise CheckpointError(
            f"{where}: missing key {key!r}, needed to read the model's sizes. "
            "It is damaged or of another layout"
        )
    shape = tuple(tensors[key].shape)
    if len(shape) != rank or 0 in shape:
        raise CheckpointError(f"{where}: {key!r} has shape {shape}; {rank} axes are needed")
    return shape


def _depth(tensors: Tensors, blocks: str) -> int:
    found = [int(m[1]) for k in tensors if (m := re.match(rf"{re.escape(blocks)}\.(\d+)\.", k))]
    return max(found, default=-1) + 1


def _ratio(tensors: Tensors, block: str, dim: int, where: str) -> float:
    hidden = _shape(tensors, f"{block}.mlp.fc1.weight", 2, where)[0]
    return hidden / dim if int(dim * (hidden / dim)) == hidden else (hidden + 0.5) / dim


def _heads(
    asked: int | None, published: int | None, dim: int, key: str, where: str, *, rotary: bool
) -> int:
    heads = asked or published
    if heads is None:
        raise ConfigError(
            f"{where}: no published model has this width ({dim}) and depth, so its head count "
            "is unknown: pass num_heads="
        )
    if heads < 1 or dim % heads:
        raise ConfigError(
            f"{where}: num_heads={heads} does not divide the width {dim} of {key!r}: "
            f"choose a divisor{f'; the published count is {published}' if published else ''}"
        )
    if rotary and (dim // heads) % 2:
        raise ConfigError(
            f"{where}: num_heads={heads} leaves {dim // heads} channels a head of {key!r}; "
            "rotary embedding rotates pairs: choose another count"
        )
    if published and heads != published:
        log.warning("%s: num_heads=%d, but the published model has %d", where, heads, published)
    return heads


def _layout(asked: LoadOverrides, family: RopeLayout, name: str, where: str) -> RopeLayout:
    if asked.rope is not None and asked.rope != family:
        raise ConfigError(
            f"{where}: rope={asked.rope!r} contradicts the file, a {name} model, whose angles are "
            f"{family}: leave rope out"
        )
    return family


def _no_rope(asked: LoadOverrides, name: str, where: str) -> None:
    if asked.rope is not None:
        raise ConfigError(
            f"{where}: rope={asked.rope!r}, but {name} has no rotary embedding: leave it out"
        )


def _patch_grid(asked: LoadOverrides, patch: int, where: str) -> tuple[int, int]:
    height, width = asked.image_size
    if height < patch or width < patch or height % patch or width % patch:
        raise ConfigError(f"{where}: image_size {asked.image_size} is not a multiple of {patch} px")
    return height // patch, width // patch


def encoder(tensors: Tensors, asked: LoadOverrides, where: str) -> VisionTransformer:
    """Build the empty encoder of V-JEPA 1 (position table), 2.1 (norms_block) or 2."""
    dim, channels, tubelet, patch, other = _shape(tensors, "patch_embed.proj.weight", 5, where)
    if channels != 3 or patch != other:
        raise CheckpointError(
            f"{where}: 'patch_embed.proj.weight' takes {channels} channels and {patch} x {other} "
            "patches; 3 channels and square patches are supported"
        )
    depth = _depth(tensors, "blocks")
    heads = _heads(
        asked.num_heads,
        ENCODER_HEADS.get((dim, depth)),
        dim,
        "blocks.0.attn.qkv.weight",
        where,
        rotary="pos_embed" not in tensors,
    )
    ratio = _ratio(tensors, "blocks.0", dim, where)
    levels = _depth(tensors, "norms_block")
    image_size, num_frames = asked.image_size, asked.num_frames
    layout: RopeLayout = "tiled"
    if "pos_embed" in tensors:
        _no_rope(asked, "V-JEPA 1 (it has a position table)", where)
        grid = (num_frames // tubelet, *_patch_grid(asked, patch, where))
        grid = table_grid(tensors["pos_embed"], grid, 16 // tubelet, where)
        num_frames, image_size = grid[0] * tubelet, (grid[1] * patch, grid[2] * patch)
    elif levels:
        layout = _layout(asked, "interleaved", "V-JEPA 2.1", where)
    else:
        layout = _layout(asked, "tiled", "V-JEPA 2", where)
    even = tuple(depth * (i + 1) // levels - 1 for i in range(levels))
    return VisionTransformer(
        EncoderConfig(
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            mlp_ratio=ratio,
            patch_size=patch,
            tubelet_size=tubelet,
            image_size=image_size,
            num_frames=num_frames,
            position="sincos" if "pos_embed" in tensors else "rope",
            rope=layout,
            interpolate_rope=levels > 0,
            modality_embedding=levels > 0,
            norm_blocks=LEVELS[depth] if levels == 4 and depth in LEVELS else even,
        )
    )


def ac_predictor(tensors: Tensors, asked: LoadOverrides, where: str) -> ActionConditionedPredictor:
    """Build the empty action-conditioned predictor (V-JEPA 2-AC, JEPA-WMs)."""
    for key in [k for k in tensors if k.startswith("proprio_encoder.")]:
        tensors[key.replace("proprio_encoder.", "state_encoder.")] = tensors.pop(key)
    dim, encoder_dim = _shape(tensors, "predictor_embed.weight", 2, where)
    depth = _depth(tensors, "predictor_blocks")
    heads = _heads(
        asked.num_heads,
        AC_HEADS.get((dim, depth)),
        dim,
        "predictor_blocks.0.attn.qkv.weight",
        where,
        rotary=True,
    )
    has_state = asked.full_ac or any(k.startswith("state_encoder.") for k in tensors)
    has_pose = asked.full_ac or any(k.startswith("extrinsics_encoder.") for k in tensors)
    action_dim = _shape(tensors, "action_encoder.weight", 2, where)[1]
    return ActionConditionedPredictor(
        PredictorConfig(
            grid=_patch_grid(asked, 16, where),
            encoder_dim=encoder_dim,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            num_frames=asked.num_frames,
            action_dim=action_dim,
            mlp_ratio=_ratio(tensors, "predictor_blocks.0", dim, where),
            use_state=has_state,
            state_dim=_shape(tensors, "state_encoder.weight", 2, where)[1] if has_state else 7,
            use_extrinsics=None if has_pose else False,
            has_extrinsics_encoder=has_pose,
            rope=_layout(asked, "tiled", "V-JEPA 2-AC", where),
        )
    )


def masked_predictor(tensors: Tensors, asked: LoadOverrides, where: str) -> MaskedPredictor:
    """Build the empty masked predictor of V-JEPA 1 (position table), 2.1 (mod_embed) or 2."""
    two_layers = any(k.startswith("predictor_embed.0.") for k in tensors)
    first = "predictor_embed.0.weight" if two_layers else "predictor_embed.weight"
    out_dim, dim = _shape(tensors, "predictor_proj.weight", 2, where)
    hidden, encoder_dim = _shape(tensors, first, 2, where)
    depth = _depth(tensors, "predictor_blocks")
    table = tensors.get("predictor_pos_embed")
    heads = _heads(
        asked.num_heads,
        MASKED_HEADS.get((dim, depth)),
        dim,
        "predictor_blocks.0.attn.qkv.weight",
        where,
        rotary=table is None,
    )
    is_21 = any("mod_embed" in k or k.startswith("predictor_proj_context") for k in tensors)
    layout: RopeLayout = "tiled"
    grid = (max(1, asked.num_frames // 2), *_patch_grid(asked, 16, where))
    if table is not None:
        _no_rope(asked, "V-JEPA 1 (it has a position table)", where)
        grid = table_grid(table, grid, 8, where)
    elif is_21:
        layout = _layout(asked, "interleaved", "V-JEPA 2.1", where)
    else:
        layout = _layout(asked, "tiled", "V-JEPA 2", where)
    return MaskedPredictor(
        MaskedPredictorConfig(
            grid=grid,
            encoder_dim=encoder_dim,
            out_dim=out_dim,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            mlp_ratio=_ratio(tensors, "predictor_blocks.0", dim, where),
            num_mask_tokens=_num_mask_tokens(tensors),
            rope=layout,
            position="rope" if table is None else "sincos",
            modality_embedding=is_21,
            predict_context=is_21,
            embed_hidden=hidden if two_layers else 0,
        )
    )


def _num_mask_tokens(tensors: Tensors) -> int:
    found = [int(m[1]) for k in tensors if (m := re.fullmatch(r"mask_tokens\.(\d+)", k))]
    return max(found, default=0) + 1


def probe(tensors: Tensors, asked: LoadOverrides, where: str) -> AttentiveClassifier:
    """Build the empty attentive probe."""
    _no_rope(asked, "a probe", where)
    _, queries, dim = _shape(tensors, "pooler.query_tokens", 3, where)
    cross = "pooler.cross_attention_block"
    heads = _heads(
        asked.num_heads, PROBE_HEADS.get(dim), dim, f"{cross}.xattn.q.weight", where, rotary=False
    )
    return AttentiveClassifier(
        ProbeConfig(
            embed_dim=dim,
            num_heads=heads,
            num_queries=queries,
            depth=_depth(tensors, "pooler.blocks") + 1,
            mlp_ratio=_ratio(tensors, cross, dim, where),
            num_classes=_shape(tensors, "linear.weight", 2, where)[0],
            norm_eps=asked.norm_eps or 1e-5,
        )
    )


def build(tensors: Tensors, part: str, asked: LoadOverrides, where: str) -> nn.Module:
    """Build the empty model for these tensors.

    Raises:
        CheckpointError: A tensor that determines a size is missing or misshapen.
        ConfigError: The number of heads or the rotary layout contradicts the tensors.
    """
    if asked.num_frames < 1 or not math.isfinite(asked.num_frames):
        raise ConfigError(f"num_frames={asked.num_frames} must be at least 1")
    if part == "probe":
        return probe(tensors, asked, where)
    if part != "predictor":
        return encoder(tensors, asked, where)
    if any(k.startswith("action_encoder.") for k in tensors):
        return ac_predictor(tensors, asked, where)
    return masked_predictor(tensors, asked, where)
