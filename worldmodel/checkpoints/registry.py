"""The published models by name: where they lie, under which licence, and how to load them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from worldmodel.checkpoints.download import Remote, fetch
from worldmodel.checkpoints.published.loading import Part
from worldmodel.errors import ConfigError
from worldmodel.models.encoder import VisionTransformer, preset

META = "https://dl.fbaipublicfiles.com"
HUGGING_FACE = "https://huggingface.co"
MIT, NC = "MIT", "CC BY-NC 4.0"


@dataclass(frozen=True)
class Published:
    """One published model."""

    urls: tuple[str, ...]
    """Files, the weights first."""
    size: str
    """Preset of the encoder."""
    licence: str
    part: Part = "target_encoder"
    """What the published code takes as the encoder."""
    image_size: int = 256
    num_frames: int = 64
    is_action_conditioned: bool = False
    encoder_from: str | None = None
    """Name whose encoder belongs to a file that holds only the predictor."""
    encodes_images: bool = False
    """V-JEPA 2.1: single frames take the image path."""


def _v1(name: str, size: str, image_size: int) -> Published:
    url = f"{META}/jepa/{name}/{name}.pth.tar"
    return Published((url,), size, NC, image_size=image_size, num_frames=16)


def _v2(file: str, size: str, image_size: int = 256) -> Published:
    return Published((f"{META}/vjepa2/{file}.pt",), size, MIT, image_size=image_size)


def _v21(file: str, size: str) -> Published:
    url = f"{META}/vjepa2/vjepa2_1_{file}_384.pt"
    return Published((url,), size, MIT, image_size=384, encodes_images=True)


def _hf(repo: str, size: str, image_size: int = 256) -> Published:
    base = f"{HUGGING_FACE}/facebook/{repo}/resolve/main"
    urls = (f"{base}/model.safetensors", f"{base}/config.json")
    return Published(urls, size, MIT, part="encoder", image_size=image_size)


REGISTRY: dict[str, Published] = {
    "vjepa-vitl16": _v1("vitl16", "vit_large", 224),
    "vjepa-vith16": _v1("vith16", "vit_huge", 224),
    "vjepa-vith16-384": _v1("vith16-384", "vit_huge", 384),
    "vjepa2-vitl": _v2("vitl", "vit_large"),
    "vjepa2-vith": _v2("vith", "vit_huge"),
    "vjepa2-vitg": _v2("vitg", "vit_giant"),
    "vjepa2-vitg-384": _v2("vitg-384", "vit_giant", 384),
    "vjepa2-ac-vitg": Published(
        (f"{META}/vjepa2/vjepa2-ac-vitg.pt",),
        "vit_giant",
        MIT,
        "encoder",
        is_action_conditioned=True,
    ),
    "vjepa2.1-vitb": _v21("vitb_dist_vitG", "vit_base"),
    "vjepa2.1-vitl": _v21("vitl_dist_vitG", "vit_large"),
    "vjepa2.1-vitg": _v21("vitg", "vit_giant"),
    "vjepa2.1-vitG": _v21("vitG", "vit_gigantic"),
    "jepa-wms-ac-vitg": Published(
        (f"{HUGGING_FACE}/facebook/jepa-wms/resolve/main/vjepa2_ac_droid.pth.tar",),
        "vit_giant",
        NC,
        "encoder",
        is_action_conditioned=True,
        encoder_from="vjepa2-vitg",
    ),
    "vjepa2-vitl-fpc64-256": _hf("vjepa2-vitl-fpc64-256", "vit_large"),
    "vjepa2-vith-fpc64-256": _hf("vjepa2-vith-fpc64-256", "vit_huge"),
    "vjepa2-vitg-fpc64-256": _hf("vjepa2-vitg-fpc64-256", "vit_giant"),
    "vjepa2-vitg-fpc64-384": _hf("vjepa2-vitg-fpc64-384", "vit_giant", 384),
}
"""Name -> model. Published checksums are unknown to us: sizes, and Hugging Face's own checksums,
are checked."""


def cache_folder() -> Path:
    """WORLDMODEL_CACHE, or ~/.cache/worldmodel."""
    return Path(os.environ.get("WORLDMODEL_CACHE") or Path.home() / ".cache" / "worldmodel")


def get(name: str) -> Published:
    """The model of a name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in REGISTRY:
        raise ConfigError(f"Unknown published model {name!r}; known: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def local_path(name: str) -> Path:
    """Where the weights of a name lie once they are fetched."""
    return cache_folder() / name / get(name).urls[0].rsplit("/", 1)[-1]


def resolve(name: str) -> Path:
    """Fetch a model's files on first use; returns the weights' path.

    Raises:
        DownloadError: not reachable or not whole; says which file to put where.
    """
    path = local_path(name)
    for url in get(name).urls:
        fetch(Remote(name, url), path.with_name(url.rsplit("/", 1)[-1]))
    return path


def num_parameters(name: str) -> int:
    """Parameters of a model's encoder, counted on its preset."""
    with torch.device("meta"):
        return sum(p.numel() for p in VisionTransformer(preset(get(name).size)).parameters())
