"""Rewrite a published checkpoint as our safetensors: weights, configuration and convention."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.checkpoints import registry
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.published.huggingface import files_of
from worldmodel.checkpoints.published.loading import KEYS, Part, load_published
from worldmodel.checkpoints.tensor_file import SafetensorsFile, is_safetensors, read_torch
from worldmodel.errors import ConfigError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import Convention
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.video_model import VideoModel
from worldmodel.models.world_model import WorldModel


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """How to read the source; zeros and empty words: as published."""

    part: str = ""
    """The encoder to keep (encoder or target_encoder), or `probe`."""
    num_heads: int = 0
    """Of the encoder, or of the probe."""
    predictor_heads: int = 0
    image_size: int = 0
    """Side of the input [px]."""
    num_frames: int = 0
    step_seconds: float = 0.25
    """Time that one action spans [s]."""
    encoder: str = ""
    """File or name to take the encoder from, for files that hold only a predictor."""
    dtype: str = "float32"
    """float32 or bfloat16, of the file."""

    def __post_init__(self) -> None:
        if self.dtype not in {"float32", "bfloat16"}:
            raise ConfigError(f"dtype={self.dtype!r}: wanted float32 or bfloat16")
        if self.step_seconds <= 0:
            raise ConfigError(f"step_seconds={self.step_seconds}: wanted more than 0 s")


@dataclass(frozen=True)
class Converted:
    """What a conversion did."""

    path: Path
    kind: str
    kept: list[str]
    dropped: list[str]
    """Top-level entries that were not kept, with their size."""


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_bytes(v) for v in value.values())
    return sum(_bytes(v) for v in value) if isinstance(value, list | tuple) else 0


def inventory(path: Path) -> dict[str, int]:
    """Top-level entries of a published file and their bytes of tensors; nothing is read in."""
    if not path.is_dir() and not is_safetensors(path):
        return {str(key): _bytes(value) for key, value in read_torch(path).items()}
    found: dict[str, int] = {}
    file = SafetensorsFile(files_of(path))
    for name, (_, dtype, _, _) in file.entries.items():
        top = name.removeprefix("vjepa2.").split(".")[0]
        count = int(torch.Size(file.shape(name)).numel()) * dtype.itemsize
        found[top] = found.get(top, 0) + count
    return found


def _source(source: str) -> tuple[Path, registry.Published | None]:
    if source in registry.REGISTRY and not Path(source).exists():
        return registry.resolve(source), registry.get(source)
    return Path(source), None


def _choose(have: dict[str, int], asked: str, known: registry.Published | None) -> str:
    """The part to keep: as asked, as published, the moving average if there is one."""
    if asked:
        return asked
    if "classifiers" in have or ("classifier" in have and "encoder" not in have):
        return "probe"
    if known is not None:
        return known.part
    has_average = any(key in have for key in KEYS["target_encoder"])
    return "target_encoder" if has_average else "encoder"


def _load(
    path: Path, part: str, config: ConvertConfig, known: registry.Published | None
) -> nn.Module:
    heads = config.predictor_heads if part == "predictor" else config.num_heads
    chosen: Any = part
    return load_published(
        path,
        chosen,
        num_heads=heads or None,
        image_size=config.image_size or (known.image_size if known else 256),
        num_frames=config.num_frames or (known.num_frames if known else 64),
    )


def _is_action_conditioned(path: Path, have: dict[str, int]) -> bool:
    if "predictor" not in have or path.is_dir() or is_safetensors(path):
        return False
    return any("action_encoder" in str(key) for key in read_torch(path)["predictor"])


def _assemble(
    path: Path, config: ConvertConfig, known: registry.Published | None, have: dict[str, int]
) -> tuple[WorldModel | VideoModel | AttentiveClassifier, list[str]]:
    part = _choose(have, config.part, known)
    if part == "probe":
        found = _load(path, part, config, known)
        assert isinstance(found, AttentiveClassifier)
        return found, ["classifiers", "classifier", "pooler"]
    is_ac = _is_action_conditioned(path, have)
    if is_ac and not config.part and "encoder" in have:
        part = "encoder"  # the frozen encoder that the predictor was trained on
    other = config.encoder or (known.encoder_from if known and "encoder" not in have else None)
    if other:
        other_path, other_known = _source(other)
        other_part: Part = other_known.part if other_known else "target_encoder"
        encoder = _load(other_path, other_part, config, other_known)
        kept = []
    else:
        encoder = _load(path, part, config, known)
        kept = [next((k for k in KEYS[part] if k in have), part)]
    assert isinstance(encoder, VisionTransformer)
    is_21 = encoder.config.modality_embedding
    convention = Convention(
        step_seconds=config.step_seconds, frames_per_token=1 if is_21 and not is_ac else 2
    )
    if not is_ac:
        return VideoModel.of(encoder, convention), kept
    predictor = _load(path, "predictor", config, known)
    assert isinstance(predictor, ActionConditionedPredictor)
    if encoder.config.image_size == (256, 256) and config.image_size:
        side = (config.image_size, config.image_size)
        encoder.config = dataclasses.replace(encoder.config, image_size=side)
    return WorldModel.of(encoder, predictor, convention), [*kept, "predictor"]


def convert(source: str, out: Path, config: ConvertConfig) -> Converted:
    """Rewrite a published file, or the file of a published name, as one safetensors file.

    Raises:
        CheckpointError: the source is torn, refused or does not fit.
        ConfigError: an option contradicts the file.
        DownloadError: a published name cannot be fetched.
    """
    path, known = _source(source)
    if out.suffix != ".safetensors":
        raise ConfigError(f"out={str(out)!r}: wanted a name that ends in .safetensors")
    if not path.exists():
        raise ConfigError(
            f"source={source!r} is neither a file nor a published name; `worldmodel models` "
            "lists the names"
        )
    have = inventory(path)
    model, kept = _assemble(path, config, known, have)
    notes = {"source": source, "licence": known.licence if known else "as the source's"}
    save(out, model, notes=notes, dtype=getattr(torch, config.dtype))
    dropped = [f"{key} ({size / 1e6:.1f} MB)" for key, size in have.items() if key not in kept]
    kind = "world model" if isinstance(model, WorldModel) else type(model).__name__
    return Converted(out, kind, [key for key in have if key in kept], dropped)
