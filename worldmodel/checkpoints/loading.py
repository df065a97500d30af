"""Load models from names, files and folders.

Accepted are `default` and other embedded names, published names (`worldmodel models`), our
safetensors files, the folder of a training run, a Hugging Face folder, a published torch file, a
training checkpoint (`.pt`) of a finished run, `USER/NAME` or `USER/NAME@REVISION` for a repository
of the Hugging Face hub, and `hf:NAME` or `hf:FOLDER` for a transformers backbone.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from worldmodel.checkpoints import pretrained, registry
from worldmodel.checkpoints.assemble import PublishedFile, Want, assemble, find_source
from worldmodel.checkpoints.backbones import load_transformers_encoder
from worldmodel.checkpoints.container import read_description, read_json
from worldmodel.checkpoints.io import Model, load_own, networks
from worldmodel.checkpoints.one_file_checkpoint import load_training_checkpoint
from worldmodel.checkpoints.random_encoder import is_random, random_encoder
from worldmodel.checkpoints.tensor_file import is_safetensors, read_torch, refuse_stand_ins
from worldmodel.errors import CheckpointError, ConfigError, DownloadError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.kernels.compiled_blocks import compile_blocks
from worldmodel.models.precision import use_precision
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.transformers_encoder import is_backbone
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import Precision

Name = str | Path
Device = str | torch.device
RUN_FILES = ("model.safetensors", "encoder.safetensors", "probe.safetensors")
"""Files that a training run exports; the first one found is loaded."""
AnyModel = TypeVar("AnyModel", bound=Model)


def resolve_device(device: Device = "auto") -> torch.device:
    """Resolve a device; `auto` is CUDA if available, else the CPU.

    Raises:
        ConfigError: No device has this name, or this machine does not have it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device} is unknown: use auto, cpu, cuda or cuda:N") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={device} is not available: torch finds {torch.cuda.device_count()} CUDA "
            "devices here. Use device=auto or device=cpu"
        )
    return found


def embedded_path(name: str = "default") -> Path:
    """Return the file of an embedded model."""
    return Path(str(importlib.resources.files("worldmodel") / "weights" / f"{name}.safetensors"))


def is_embedded(name: str) -> bool:
    """Return whether a name is that of an embedded model, and not of a file or folder."""
    path = Path(name)
    return not path.exists() and not path.suffix and embedded_path(name).is_file()


def describe(model: nn.Module) -> str:
    """Describe a model and the commands that accept it."""
    if isinstance(model, WorldModel):
        return "a world model (`worldmodel plan`, `eval` and `drive` take it)"
    if isinstance(model, FrameEncoder):
        return (
            "an encoder without an action-conditioned predictor, so it cannot imagine actions "
            "(`worldmodel features` takes it, and `worldmodel train mode=post encoder=...` trains "
            "a predictor on it)"
        )
    if isinstance(model, AttentiveClassifier):
        return "a probe, a classifier on an encoder's features (load it with load_probe)"
    return "a latent dynamics without its encoder"


def load_world_model(
    name_or_path: Name = "default",
    device: Device = "auto",
    precision: Precision = "auto",
    *,
    encoder: FrameEncoder | None = None,
) -> WorldModel:
    """Load a world model: a frame encoder and the latent dynamics trained on it.

    Args:
        name_or_path: An embedded or published name, a file, or a folder (see this module).
        device: A torch device, or `auto` for CUDA if available.
        precision: Data type of the weights; `auto` is bfloat16 on CUDA devices that have it,
            else float32.
        encoder: Encoder of your own class, with which the model was trained.

    Raises:
        CheckpointError: The name is unknown, the file is damaged, or the model is of another kind.
        DownloadError: A published file cannot be downloaded; the message describes the manual
            download.
    """
    model = _open(name_or_path, "any", encoder)
    if not isinstance(model, WorldModel):
        raise CheckpointError(
            f"{name_or_path} is {describe(model)}; needed: a world model, such as the embedded "
            "'default' or vjepa2-ac-vitg"
        )
    return place(model, device, precision)


def load_encoder(
    name_or_path: Name,
    device: Device = "auto",
    precision: Precision = "auto",
    *,
    seed: int = 0,
    image_size: int = 256,
    encoder: FrameEncoder | None = None,
) -> FrameEncoder:
    """Load a frame encoder, or the one inside a world model.

    Args:
        name_or_path: As for `load_world_model`; also `hf:NAME`, `hf:FOLDER`, and `random:vit_base`
            or another size for untrained weights.
        device: A torch device, or `auto` for CUDA if available.
        precision: Data type of the weights; `auto` is bfloat16 on CUDA devices that have it,
            else float32.
        seed: Seed of a random encoder's weights.
        image_size: Side of a random encoder's images [px].
        encoder: Encoder of your own class, whose weights are read.

    Raises:
        CheckpointError: The name is unknown, the file is damaged, or the model is of another kind.
        ConfigError: The name is empty, or the random size is unknown.
        DownloadError: A published file cannot be downloaded; the message describes the manual
            download.
    """
    if not str(name_or_path):
        raise ConfigError("encoder= is empty: use a name of `worldmodel models`, or a file")
    if is_random(str(name_or_path)):
        return place(random_encoder(str(name_or_path), seed, image_size), device, precision)
    model = _open(name_or_path, "encoder", encoder)
    if isinstance(model, WorldModel):
        model = model.encoder
    if not isinstance(model, FrameEncoder):
        raise CheckpointError(f"{name_or_path} is {describe(model)}; needed: an encoder")
    return place(model, device, precision)


def load_probe(
    name_or_path: Name, device: Device = "auto", precision: Precision = "auto"
) -> AttentiveClassifier:
    """Load an attentive probe.

    Raises:
        CheckpointError: The name is unknown, the file is damaged, or the model is of another kind.
        DownloadError: A published file cannot be downloaded; the message describes the manual
            download.
    """
    model = _open(name_or_path, "probe")
    if not isinstance(model, AttentiveClassifier):
        raise CheckpointError(f"{name_or_path} is {describe(model)}; needed: a probe")
    return place(model, device, precision)


def load_any(
    name_or_path: Name = "default",
    device: Device = "auto",
    precision: Precision = "auto",
    *,
    encoder: FrameEncoder | None = None,
) -> Model:
    """Load a model of any kind; use the typed loaders if you need a specific one.

    Args:
        name_or_path: As for `load_world_model`.
        device: A torch device, or `auto` for CUDA if available.
        precision: Data type of the weights.
        encoder: Encoder of your own class, whose weights are read.

    Raises:
        CheckpointError: The name is unknown, or the file is damaged.
        DownloadError: A published file cannot be downloaded; the message describes the manual
            download.
    """
    return place(_open(name_or_path, "any", encoder), device, precision)


def place(model: AnyModel, device: Device, precision: Precision = "auto") -> AnyModel:
    """Move a loaded model to its device and precision, and use the fast layers of both.

    On a CPU these are the optimised layers; in bfloat16 on CUDA, the compiled blocks.

    Raises:
        ConfigError: The device or the precision is unknown, or this machine lacks the device.
    """
    target = resolve_device(device)
    dtype = use_precision(networks(model).values(), precision, target)
    if target.type == "cpu":
        optimize_for_cpu(model)
    elif dtype == torch.bfloat16:
        compile_blocks(model)
    model.to(target).eval().requires_grad_(False)
    return model


def _open(name_or_path: Name, want: Want, encoder: FrameEncoder | None = None) -> Model:
    name, path = str(name_or_path), Path(name_or_path)
    if name.startswith("hf:"):
        return load_transformers_encoder(name.removeprefix("hf:"))
    if path.is_dir():
        return _open_folder(path, want, encoder)
    if path.is_file():
        return _open_file(path, want, encoder)
    if registry.is_known(name):
        file, known = find_source(name)
        return assemble(PublishedFile(file, known=known), want)[0]
    if is_embedded(name):
        return load_own(embedded_path(name))
    repository = pretrained.parse_repository(name)
    if repository is not None:
        return _open_repository(repository, name, want, encoder)
    files = embedded_path().parent.glob("*.safetensors")
    shipped = sorted(p.stem for p in files if not p.stem.endswith("-decoder"))
    raise CheckpointError(
        f"No model {name!r}: neither a file or folder nor one of {shipped}. "
        f"Published names: {', '.join(registry.REGISTRY)}"
    )


def _open_repository(
    repository: pretrained.Repository, name: str, want: Want, encoder: FrameEncoder | None
) -> Model:
    """Load from the hub's cache, downloading on first use.

    Raises:
        DownloadError: A file cannot be downloaded.
    """
    try:
        folder = pretrained.fetch_repository(repository, Path(name))
    except DownloadError as error:
        raise DownloadError(
            f"No model {name!r}: there is no such file or folder here, no published model has this "
            f"name, and from the Hugging Face hub it cannot be had. {error}"
        ) from error
    if pretrained.is_ours(folder):
        return pretrained.load_pretrained(folder, checked=True, encoder=encoder)
    return _open_folder(folder, want, encoder)


def _open_folder(folder: Path, want: Want, encoder: FrameEncoder | None) -> Model:
    """Load from a training run's folder or a Hugging Face folder."""
    config = folder / "config.json"
    if config.is_file():
        if pretrained.is_ours(folder):
            return pretrained.load_pretrained(folder, encoder=encoder)
        if is_backbone(read_json(config)):
            return load_transformers_encoder(folder)
        return assemble(PublishedFile(folder), want)[0]
    for name in RUN_FILES:
        if (folder / name).is_file():
            return _open_file(folder / name, want, encoder)
    if folder.parent.name == "checkpoints":
        raise CheckpointError(
            f"{folder} is a training checkpoint, which only its own run reads: load the run's "
            f"folder, {folder.parent.parent}, after the run has ended"
        )
    if any(folder.glob("checkpoints/*")):
        raise CheckpointError(
            f"{folder} holds training checkpoints but no model.safetensors: the run has not ended. "
            "Resume it with the same command; it writes the model at its end"
        )
    raise CheckpointError(
        f"{folder} holds no model: expected {', '.join(RUN_FILES)} of a training run, or the "
        "config.json of a Hugging Face model"
    )


def _open_file(path: Path, want: Want, encoder: FrameEncoder | None) -> Model:
    refuse_stand_ins(path)
    if path.suffix == ".safetensors" or is_safetensors(path):
        if read_description(path) is not None:
            return load_own(path, encoder)
        return assemble(PublishedFile(path), want)[0]
    state = read_torch(path)
    if {"model", "optimizer"} <= state.keys():
        return load_training_checkpoint(path, state["model"])
    return assemble(PublishedFile(path), want)[0]
