"""Our own checkpoints: safetensors with the configuration inside; nothing is ever unpickled."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from worldmodel.checkpoints import registry
from worldmodel.checkpoints.container import load_tensors, read_metadata, save_safetensors
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.errors import CheckpointError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import ModelConfig, ProbeConfig, VideoConfig, from_dict, to_dict
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.video_model import VideoModel
from worldmodel.models.world_model import WorldModel

__all__ = ["embedded_path", "load", "load_any", "load_published", "resolve_device", "save"]


KINDS: dict[type, str] = {
    WorldModel: "world_model",
    VideoModel: "video_model",
    AttentiveClassifier: "probe",
}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` is CUDA when there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def save(
    path: Path | str,
    model: WorldModel | VideoModel | AttentiveClassifier,
    *,
    notes: dict[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights, configuration and convention to one safetensors file, atomically.

    `dtype` is that of the file; `load` gives float32 in any case.
    """
    tensors: dict[str, Tensor] = {
        name: value.detach().cpu().to(dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {"kind": KINDS[type(model)], "config": to_dict(model.config), "notes": notes or {}}
    save_safetensors(Path(path), tensors, metadata)


def embedded_path(name: str = "default") -> Path:
    """File of a model that ships with the package."""
    return Path(str(importlib.resources.files("worldmodel") / "weights" / f"{name}.safetensors"))


def _empty(path: Path, metadata: dict[str, Any]) -> nn.Module:
    """The model that a file describes, its networks without memory yet."""
    kind = metadata.get("kind")
    if kind == "video_model":
        config = from_dict(VideoConfig, metadata["config"])
        with torch.device("meta"):
            encoder = VisionTransformer(config.encoder)
        return VideoModel(config, encoder)
    if kind == "probe":
        config = from_dict(ProbeConfig, metadata["config"])
        with torch.device("meta"):
            return AttentiveClassifier(config)
    if kind != "world_model":
        raise CheckpointError(
            f"{path} is not a world model (kind {kind!r}); "
            "`worldmodel convert` makes one from a published file"
        )
    config = from_dict(ModelConfig, metadata["config"])
    with torch.device("meta"):
        encoder = VisionTransformer(config.encoder)
        predictor = ActionConditionedPredictor(config.predictor)
    return WorldModel(config, encoder, predictor)


def load_any(
    name_or_path: str | Path = "default", device: str | torch.device = "auto"
) -> nn.Module:
    """Load a WorldModel, a VideoModel or a probe: embedded or published name, or our own file.

    Raises:
        CheckpointError: unknown name, damaged file, or keys and shapes that do not fit.
        DownloadError: a published file cannot be fetched; the message says what to put where.
    """
    path = Path(name_or_path)
    if str(name_or_path) in registry.REGISTRY and not path.is_file():
        published = registry.load_named(str(name_or_path))
        return published.to(resolve_device(device)).eval().requires_grad_(False)
    if not path.suffix:
        path = embedded_path(str(name_or_path))
    if not path.is_file():
        shipped = sorted(p.stem for p in embedded_path().parent.glob("*.safetensors"))
        raise CheckpointError(
            f"No model {str(name_or_path)!r}: neither a file nor one of {shipped}. "
            f"Published names: {', '.join(registry.REGISTRY)}"
        )
    model = _empty(path, read_metadata(path))
    tensors = load_tensors(path)
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    wrong = [k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape]
    if missing or extra or wrong:
        raise CheckpointError(
            f"{path} does not fit its own configuration: missing {missing[:5]}, "
            f"unexpected {extra[:5]}, wrong shape {wrong[:5]}. The file is damaged: fetch it again"
        )
    model.load_state_dict({k: v.float() for k, v in tensors.items()}, assign=True)
    return model.to(resolve_device(device)).eval().requires_grad_(False)


def load(name_or_path: str | Path = "default", device: str | torch.device = "auto") -> WorldModel:
    """Load a world model: an embedded name ("default"), a published name, or a file of `save`.

    Names of encoders without an action-conditioned predictor give a `VideoModel`, which encodes
    but cannot imagine.

    Raises:
        CheckpointError: unknown name, damaged file, or keys and shapes that do not fit.
        DownloadError: a published file cannot be fetched; the message says what to put where.
    """
    return cast(WorldModel, load_any(name_or_path, device))
