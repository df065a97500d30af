"""Strict loading of published V-JEPA and I-JEPA checkpoints, with detection of the model family.

Layouts: I-JEPA, V-JEPA 1, 2, 2-AC, 2.1, JEPA-WMs' retrained AC, attentive probes, and Hugging Face
safetensors. Sizes are read from the tensors; a missing, unexpected or misshapen tensor is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from worldmodel.checkpoints.container import fill
from worldmodel.checkpoints.published.huggingface import HEADS, read_part
from worldmodel.checkpoints.published.ijepa import as_video_layout, is_image_part
from worldmodel.checkpoints.published.part_reader import LoadOverrides
from worldmodel.checkpoints.published.sizes import build
from worldmodel.checkpoints.tensor_file import is_safetensors, read_torch
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.config import RopeLayout
from worldmodel.models.kernels import optimize_for_cpu

log = logging.getLogger(__name__)
Part = Literal["encoder", "target_encoder", "predictor", "probe"]
PARTS = ("encoder", "target_encoder", "predictor", "probe")
KEYS = {
    "encoder": ("encoder",),
    "target_encoder": ("target_encoder", "ema_encoder"),
    "predictor": ("predictor",),
    "probe": ("classifiers", "classifier"),
}
"""Part -> top-level keys that may hold it; the first found is used."""


@dataclass(frozen=True)
class PartFile:
    """Tensors and metadata of one part of a file."""

    tensors: dict[str, Tensor]
    """Tensors under their published names."""
    heads: int | None
    """Number of attention heads from config.json, or None."""
    norm_eps: float | None
    """Layer norm epsilon from config.json, or None."""
    is_meta_ac: bool
    """Whether the top-level keys are those of V-JEPA 2, not of JEPA-WMs."""


def clean_keys(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Strip `module.` and `backbone.` from keys; reject non-float entries.

    Raises:
        CheckpointError: A value is not a float tensor, or two keys map to the same name.
    """
    cleaned: dict[str, Tensor] = {}
    for key, value in state.items():
        name = str(key).removeprefix("module.").removeprefix("backbone.")
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: {key!r} is a {type(value).__name__}, not a tensor")
        if value.dtype not in {torch.float32, torch.float16, torch.bfloat16}:
            raise CheckpointError(
                f"{where}: {key!r} is {value.dtype}; weights are float32, float16 or bfloat16"
            )
        if value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError(f"{where}: {key!r} is not a plain tensor with values")
        stored = value.untyped_storage().nbytes()
        if not value.numel() or value.numel() * value.element_size() > stored:
            raise CheckpointError(
                f"{where}: {key!r} has shape {tuple(value.shape)}, and the file holds {stored} "
                "bytes of it: damaged, or made to exhaust the memory"
            )
        if name in cleaned:
            raise CheckpointError(f"{where}: {key!r} and another key both mean {name!r}")
        cleaned[name] = value
    return cleaned


def _read_torch_part(path: Path, part: str) -> PartFile:
    file = read_torch(path)
    found = next((key for key in KEYS[part] if file.get(key) is not None), None)
    if found is None:
        have = [p for p, keys in KEYS.items() if any(file.get(k) is not None for k in keys)]
        raise CheckpointError(
            f"{path} has no {part}: its top-level keys are {sorted(map(str, file))[:12]}; parts "
            f"that can be loaded from it: {', '.join(have) or 'none'}"
        )
    state = file[found]
    if isinstance(state, list):
        if not state:
            raise CheckpointError(f"{path}: {found!r} is an empty list, without a probe")
        if len(state) > 1:
            log.warning(
                "%s holds %d probes; the first one is loaded (`probe eval` and `predict` take "
                "head=N)",
                path,
                len(state),
            )
        state = state[0]
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path}: {found!r} is a {type(state).__name__}, not a dictionary of tensors"
        )
    tensors = clean_keys(state, f"{path} [{found}]")
    return PartFile(tensors, None, None, is_meta_ac="target_encoder" in file)


def read_part_of(path: Path, part: str) -> PartFile:
    """Read the tensors of one part of any published layout under their original names.

    Raises:
        CheckpointError: The file is missing, damaged or refused, or lacks this part.
    """
    if not path.exists():
        raise CheckpointError(f"No file {str(path)!r}; `worldmodel models` lists published ones")
    if path.is_dir() or is_safetensors(path):
        tensors, config = read_part(path, part)
        return PartFile(
            clean_keys(tensors, str(path)),
            config.get(HEADS[part]),
            config.get("layer_norm_eps", 1e-6),
            is_meta_ac=False,
        )
    return _read_torch_part(path, part)


def load_published(
    path: str | Path,
    part: Part,
    *,
    num_heads: int | None = None,
    image_size: int | tuple[int, int] = 256,
    num_frames: int = 64,
    rope: RopeLayout | None = None,
) -> nn.Module:
    """Load one part of a published checkpoint.

    Args:
        path: Torch file, safetensors file, or Hugging Face folder.
        part: `encoder`, `target_encoder` (the moving average), `predictor` or `probe`.
        num_heads: Number of attention heads; None uses the published model of this width and depth.
        image_size: Side, or height and width, of the images that define the token grid [px].
        num_frames: Frames of a clip; for V-JEPA 1 it resolves an ambiguous position table.
        rope: Rotary layout; None uses the family's (2.0 tiled, 2.1 interleaved).

    Returns:
        VisionTransformer, MaskedPredictor, ActionConditionedPredictor or AttentiveClassifier, in
        eval mode; its `config` records the sizes read. Weights of a torch file stay memory-mapped.

    Raises:
        CheckpointError: The file is damaged or refused, or keys and shapes do not fit; the message
            names them.
        ConfigError: The part is unknown, the number of heads is unknown or not a divisor, or rope
            contradicts the file.
    """
    if part not in PARTS:
        raise ConfigError(f"Unknown part {part!r}; known: {', '.join(PARTS)}")
    path = Path(path)
    source = read_part_of(path, part)
    if num_heads is not None and source.heads is not None and num_heads != source.heads:
        raise ConfigError(
            f"num_heads={num_heads} contradicts config.json, which has {source.heads}: leave it out"
        )
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    asked = LoadOverrides(
        num_heads=num_heads or source.heads,
        image_size=(size[0], size[1]),
        num_frames=num_frames,
        rope=rope,
        norm_eps=source.norm_eps,
        full_ac=source.is_meta_ac,
    )
    where = f"{path} [{part}]"
    tensors = dict(source.tensors)
    if is_image_part(tensors):
        asked = as_video_layout(tensors, asked, where)
    with torch.device("meta"):
        model = build(tensors, part, asked, where)
    fill({"": model}, tensors, where)
    return optimize_for_cpu(model.eval())
