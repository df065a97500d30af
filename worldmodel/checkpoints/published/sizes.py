"""Infer sizes and family of a published part from its tensors, and build the empty model."""

from __future__ import annotations

import math
import re

from torch import nn

from worldmodel.checkpoints.published.part_reader import LoadOverrides, PartReader, Tensors
from worldmodel.checkpoints.published.positions import table_grid
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import (
    EncoderConfig,
    MaskedPredictorConfig,
    PredictorConfig,
    ProbeConfig,
)
from worldmodel.models.encoder import PRESETS, VisionTransformer
from worldmodel.models.masked_predictor import MaskedPredictor
from worldmodel.models.probe import AttentiveClassifier

ENCODER_HEADS = {(width, depth): heads for width, depth, heads, _ in PRESETS.values()}
IMAGE_HEADS = {(1280, 32): 16, (1408, 40): 16}
"""I-JEPA's encoders; its giant has 16 heads, V-JEPA's of the same width 22."""
IMAGE_PREDICTOR_HEADS = {(384, 12): 16, (384, 16): 16}
MASKED_HEADS = {(384, 12): 12, (384, 24): 12}
AC_HEADS = {(1024, 24): 16}
PROBE_HEADS = {1024: 16, 1280: 16, 1408: 16}
"""Number of heads of every probe, independent of its encoder. Source: published recipes."""
PREDICTOR_QKV = "predictor_blocks.0.attn.qkv.weight"
LEVELS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 40: (9, 19, 29, 39), 48: (11, 23, 37, 47)}
"""Depth -> blocks whose outputs have a separate LayerNorm (V-JEPA 2.1)."""


def encoder(part: PartReader) -> VisionTransformer:
    """Build the empty encoder of V-JEPA 1 or I-JEPA (position table), 2.1 (norms_block) or 2."""
    dim, channels, tubelet, patch, other = part.shape("patch_embed.proj.weight", 5)
    if channels != 3 or patch != other:
        raise CheckpointError(
            f"{part.where}: 'patch_embed.proj.weight' takes {channels} channels and {patch} x "
            f"{other} patches; 3 channels and square patches are supported"
        )
    depth = part.count("blocks")
    table, is_image = part.tensors.get("pos_embed"), part.asked.is_image
    published = (IMAGE_HEADS if is_image else ENCODER_HEADS).get((dim, depth))
    heads = part.heads(published, dim, "blocks.0.attn.qkv.weight", rotary=table is None)
    ratio = part.ratio("blocks.0", dim)
    levels = part.count("norms_block")
    image_size, num_frames = part.asked.image_size, part.asked.num_frames
    layout = part.rope(has_table=table is not None, is_21=levels > 0)
    if table is not None:
        grid = (num_frames // tubelet, *part.patch_grid(patch))
        grid = table_grid(table, grid, 16 // tubelet, part.where)
        num_frames, image_size = grid[0] * tubelet, (grid[1] * patch, grid[2] * patch)
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
            position=part.position(table),
            norm_eps=(part.asked.norm_eps if is_image else None) or 1e-6,
            rope=layout,
            interpolate_rope=levels > 0,
            modality_embedding=levels > 0,
            norm_blocks=LEVELS[depth] if levels == 4 and depth in LEVELS else even,
        )
    )


def ac_predictor(part: PartReader) -> ActionConditionedPredictor:
    """Build the empty action-conditioned predictor (V-JEPA 2-AC, JEPA-WMs)."""
    tensors = part.tensors
    for key in [k for k in tensors if k.startswith("proprio_encoder.")]:
        tensors[key.replace("proprio_encoder.", "state_encoder.")] = tensors.pop(key)
    dim, encoder_dim = part.shape("predictor_embed.weight", 2)
    depth = part.count("predictor_blocks")
    heads = part.heads(AC_HEADS.get((dim, depth)), dim, PREDICTOR_QKV, rotary=True)
    has_state = part.asked.full_ac or any(k.startswith("state_encoder.") for k in tensors)
    has_pose = part.asked.full_ac or any(k.startswith("extrinsics_encoder.") for k in tensors)
    action_dim = part.shape("action_encoder.weight", 2)[1]
    return ActionConditionedPredictor(
        PredictorConfig(
            grid=part.patch_grid(16),
            encoder_dim=encoder_dim,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            num_frames=part.asked.num_frames,
            action_dim=action_dim,
            mlp_ratio=part.ratio("predictor_blocks.0", dim),
            use_state=has_state,
            state_dim=part.shape("state_encoder.weight", 2)[1] if has_state else 7,
            use_extrinsics=None if has_pose else False,
            has_extrinsics_encoder=has_pose,
            rope=part.rope(has_table=False, is_21=False, name="V-JEPA 2-AC"),
        )
    )


def masked_predictor(part: PartReader) -> MaskedPredictor:
    """Build the empty masked predictor of V-JEPA 1 (position table), 2.1 (mod_embed) or 2."""
    tensors = part.tensors
    two_layers = any(k.startswith("predictor_embed.0.") for k in tensors)
    first = "predictor_embed.0.weight" if two_layers else "predictor_embed.weight"
    out_dim, dim = part.shape("predictor_proj.weight", 2)
    hidden, encoder_dim = part.shape(first, 2)
    depth = part.count("predictor_blocks")
    table = tensors.get("predictor_pos_embed")
    published = (IMAGE_PREDICTOR_HEADS if part.asked.is_image else MASKED_HEADS).get((dim, depth))
    heads = part.heads(published, dim, PREDICTOR_QKV, rotary=table is None)
    is_21 = any("mod_embed" in k or k.startswith("predictor_proj_context") for k in tensors)
    layout = part.rope(has_table=table is not None, is_21=is_21)
    grid = (max(1, part.asked.num_frames // 2), *part.patch_grid(16))
    if table is not None:
        grid = table_grid(table, grid, 8, part.where)
    return MaskedPredictor(
        MaskedPredictorConfig(
            grid=grid,
            encoder_dim=encoder_dim,
            out_dim=out_dim,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            mlp_ratio=part.ratio("predictor_blocks.0", dim),
            num_mask_tokens=max(1, part.count("mask_tokens")),
            rope=layout,
            mask_token_per_kind=table is not None and not part.asked.is_image,
            position=part.position(table),
            modality_embedding=is_21,
            predict_context=is_21,
            embed_hidden=hidden if two_layers else 0,
        )
    )


def pooler_config(part: PartReader) -> ProbeConfig:
    """Read the sizes of an attentive pooler, whose keys begin with `pooler.`, and of its classes.

    V-JEPA 1's files hold an output projection of the cross-attention, which its forward pass never
    uses; it tells the family, and is removed from the tensors.
    """
    part.refuse_rope("a probe")
    _, queries, dim = part.shape("pooler.query_tokens", 3)
    cross, tensors = "pooler.cross_attention_block", part.tensors
    complete = f"{cross}.q.weight" not in tensors
    query = f"{cross}.xattn.q.weight" if complete else f"{cross}.q.weight"
    unused = [k for k in tensors if re.fullmatch(rf"{cross}\.(xattn\.)?proj\.(weight|bias)", k)]
    for key in unused:
        del tensors[key]
    depth = part.count("pooler.blocks") + 1
    block = cross if complete else "pooler.blocks.0"
    return ProbeConfig(
        embed_dim=dim,
        num_heads=part.heads(PROBE_HEADS.get(dim), dim, query, rotary=False),
        num_queries=queries,
        depth=depth,
        self_attention_on="queries" if unused else "tokens",
        complete_block=complete,
        mlp_ratio=part.ratio(block, dim) if complete or depth > 1 else 4.0,
        num_classes=part.shape("linear.weight", 2)[0] if "linear.weight" in tensors else 1,
        norm_eps=part.asked.norm_eps or 1e-5,
    )


def probe(part: PartReader) -> AttentiveClassifier:
    """Build the empty attentive probe."""
    part.shape("linear.weight", 2)
    return AttentiveClassifier(pooler_config(part))


def build(tensors: Tensors, part: str, asked: LoadOverrides, where: str) -> nn.Module:
    """Build the empty model for these tensors.

    Raises:
        CheckpointError: A tensor that determines a size is missing or misshapen.
        ConfigError: The number of heads or the rotary layout contradicts the tensors.
    """
    if asked.num_frames < 1 or not math.isfinite(asked.num_frames):
        raise ConfigError(f"num_frames={asked.num_frames} must be at least 1")
    reader = PartReader(tensors, asked, where)
    if part == "probe":
        return probe(reader)
    if part != "predictor":
        return encoder(reader)
    if any(k.startswith("action_encoder.") for k in tensors):
        return ac_predictor(reader)
    return masked_predictor(reader)
