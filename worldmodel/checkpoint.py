"""Our own checkpoints: safetensors with the configuration inside; nothing is ever unpickled."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.config import ModelConfig, from_dict, to_dict
from worldmodel.container import load_tensors, read_metadata, save_safetensors
from worldmodel.errors import CheckpointError
from worldmodel.published import load_published
from worldmodel.world_model import WorldModel

__all__ = ["embedded_path", "load", "load_published", "resolve_device", "save"]


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` is CUDA when there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def save(
    path: Path | str,
    model: WorldModel,
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
    metadata = {"kind": "world_model", "config": to_dict(model.config), "notes": notes or {}}
    save_safetensors(Path(path), tensors, metadata)


def embedded_path(name: str = "default") -> Path:
    """File of a model that ships with the package."""
    return Path(str(importlib.resources.files("worldmodel") / "weights" / f"{name}.safetensors"))


def load(name_or_path: str | Path = "default", device: str | torch.device = "auto") -> WorldModel:
    """Load a world model: an embedded name ("default"), or a file written by `save`.

    Raises:
        CheckpointError: unknown name, damaged file, or keys and shapes that do not fit.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = embedded_path(str(name_or_path))
    if not path.is_file():
        shipped = sorted(p.stem for p in embedded_path().parent.glob("*.safetensors"))
        raise CheckpointError(
            f"No model {str(name_or_path)!r}: neither a file nor one of {shipped}. "
            "`worldmodel models` lists the published names"
        )
    metadata = read_metadata(path)
    if metadata.get("kind") != "world_model":
        raise CheckpointError(
            f"{path} is not a world model (kind {metadata.get('kind')!r}); "
            "`worldmodel convert` makes one from a published file"
        )
    model = WorldModel(from_dict(ModelConfig, metadata["config"]))
    tensors = load_tensors(path)
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    wrong = [k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape]
    if missing or extra or wrong:
        raise CheckpointError(
            f"{path} does not fit its own configuration: missing {missing[:5]}, "
            f"unexpected {extra[:5]}, wrong shape {wrong[:5]}. The file is damaged: fetch it again"
        )
    model.load_state_dict({k: v.float() for k, v in tensors.items()})
    return model.to(resolve_device(device)).eval().requires_grad_(False)
