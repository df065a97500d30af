"""Read I-JEPA layouts as single-frame V-JEPA layouts, and write the Hugging Face layout.

I-JEPA files hold `encoder`, `predictor` and `target_encoder`. A patch embedding is a 2-D
convolution, there is a single `mask_token`, and the position tables are 2-D. Hugging Face's files
hold the online `encoder`; the paper evaluates `target_encoder`.

Source: I-JEPA (arXiv 2301.08243).
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.container import write_tensors
from worldmodel.checkpoints.published.part_reader import LoadOverrides
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.encoder import VisionTransformer

PATCH = "patch_embed.proj.weight"
HUGGING_FACE = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm": "layernorm",
}
"""Published layer name -> name on Hugging Face."""


def is_image_part(tensors: dict[str, Tensor]) -> bool:
    """Return whether tensors belong to an I-JEPA encoder or predictor."""
    patch = tensors.get(PATCH)
    return "mask_token" in tensors or (patch is not None and patch.ndim == 4)


def as_video_layout(tensors: dict[str, Tensor], asked: LoadOverrides, where: str) -> LoadOverrides:
    """Rename and reshape I-JEPA's tensors in place; return the settings for building the model.

    Raises:
        CheckpointError: The position table [1, N, D] is missing.
        ConfigError: The table matches neither `image_size` nor a square image.
    """
    is_predictor = PATCH not in tensors
    table = tensors.get("predictor_pos_embed" if is_predictor else "pos_embed")
    if table is None or table.ndim != 3:
        raise CheckpointError(
            f"{where}: the position table [1, N, D] is missing: download the file again"
        )
    patch = 16  # of the predictor only the grid counts
    if is_predictor:
        tensors["mask_tokens.0"] = tensors.pop("mask_token")
    else:
        patch = tensors[PATCH].shape[-1]
        tensors[PATCH] = tensors[PATCH].unsqueeze(2)
    rows, columns = _grid(table.shape[1], asked.image_size, patch, where)
    size = (rows * patch, columns * patch)
    return dataclasses.replace(asked, image_size=size, num_frames=1, is_image=True)


def _grid(tokens: int, image_size: tuple[int, int], patch: int, where: str) -> tuple[int, int]:
    """Return patch rows and columns: of `image_size` if the count matches, else of a square."""
    rows, columns = (side // patch for side in image_size)
    side = math.isqrt(tokens)
    if rows * columns == tokens:
        return rows, columns
    if side * side != tokens:
        raise ConfigError(
            f"{where}: the position table has {tokens} tokens, not a square number: pass the "
            "image_size that the model was trained with"
        )
    return side, side


def _their_tensors(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return one of our tensors under Hugging Face's names; query, key and value are split."""
    if name == "pos_embed":
        return {"embeddings.position_embeddings": value}
    start = ""
    if name.startswith("blocks."):
        _, number, name = name.split(".", 2)
        start = f"encoder.layer.{number}."
    layer, kind = name.rsplit(".", 1)
    if layer == "attn.qkv":
        thirds = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{start}attention.attention.{n}.{kind}": v.contiguous() for n, v in thirds}
    if layer == "patch_embed.proj" and kind == "weight":
        value = value.squeeze(2)
    return {f"{start}{HUGGING_FACE[layer]}.{kind}": value.contiguous()}


def write_huggingface(
    encoder: VisionTransformer, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write an I-JEPA encoder as a folder that `transformers.IJepaModel.from_pretrained` reads.

    Raises:
        ConfigError: The encoder is not an I-JEPA encoder, or its images are not square.
    """
    c = encoder.config
    if c.position != "sincos_2d" or c.stem != "patch" or c.image_size[0] != c.image_size[1]:
        raise ConfigError(
            f"position={c.position}, stem={c.stem}, image_size={c.image_size}: this layout is for "
            "I-JEPA encoders of square images"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, value in encoder.state_dict().items():
        tensors |= _their_tensors(name, value.detach().cpu().to(dtype))
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    settings = {
        "architectures": ["IJepaModel"],
        "model_type": "ijepa",
        "hidden_size": c.embed_dim,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.num_heads,
        "intermediate_size": int(c.embed_dim * c.mlp_ratio),
        "image_size": c.image_size[0],
        "patch_size": c.patch_size,
        "layer_norm_eps": c.norm_eps,
        "qkv_bias": True,
        "hidden_act": "gelu",
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    write_json(folder / "config.json", settings)
