"""Published models by name, with their files, licences and sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from worldmodel.checkpoints.download import Remote, fetch
from worldmodel.checkpoints.hub import cached_path, fetch_from_hub, page_of
from worldmodel.checkpoints.known_files import KNOWN_FILES
from worldmodel.checkpoints.published.loading import Part
from worldmodel.checkpoints.tensor_file import verify_weights
from worldmodel.data.cache import cache_root
from worldmodel.errors import ConfigError
from worldmodel.models.encoder import VisionTransformer, preset

META = "https://dl.fbaipublicfiles.com"
MIT, NC = "MIT", "CC BY-NC 4.0"


@dataclass(frozen=True)
class Published:
    """A published model."""

    files: tuple[str, ...]
    """URLs of the files, or with `repo` their names in the repository; weights come first."""
    size: str
    """Preset of the encoder."""
    licence: str
    part: Part = "target_encoder"
    """Part of the file that the published code uses as the encoder."""
    repo: str = ""
    """Hugging Face repository; empty for files that are downloaded from a URL."""
    image_size: int = 256
    """Height and width of the input images [px]."""
    num_frames: int = 64
    """Frames of a clip."""
    is_action_conditioned: bool = False
    """Whether the file holds an action-conditioned predictor."""
    encoder_from: str | None = None
    """Name of the model that provides the encoder of a predictor-only file."""
    patch_size: int = 16
    """Height and width of the pixels of one token [px]."""
    tubelet_size: int = 2
    """Frames of one token; 1 in image models (I-JEPA)."""

    @property
    def url(self) -> str:
        """Return the URL of the weights."""
        return page_of(self.repo, self.files[0]) if self.repo else self.files[0]


def _v1(name: str, size: str, image_size: int) -> Published:
    url = f"{META}/jepa/{name}/{name}.pth.tar"
    return Published((url,), size, NC, image_size=image_size, num_frames=16)


def _v2(file: str, size: str, image_size: int = 256) -> Published:
    return Published((f"{META}/vjepa2/{file}.pt",), size, MIT, image_size=image_size)


def _v21(file: str, size: str) -> Published:
    url = f"{META}/vjepa2/vjepa2_1_{file}_384.pt"
    return Published((url,), size, MIT, image_size=384)


def _hf(repo: str, size: str, image_size: int = 256, num_frames: int = 64) -> Published:
    return Published(
        ("model.safetensors", "config.json"),
        size,
        MIT,
        part="encoder",
        repo=f"facebook/{repo}",
        image_size=image_size,
        num_frames=num_frames,
    )


def _ijepa(
    file: str, size: str, patch_size: int = 14, image_size: int = 224, repo: str = ""
) -> Published:
    """Describe an I-JEPA model; Hugging Face's files hold the online encoder, not the average."""
    on_hub = ("model.safetensors", "config.json")
    return Published(
        on_hub if repo else (f"{META}/ijepa/{file}.pth.tar",),
        size,
        NC,
        part="encoder" if repo else "target_encoder",
        repo=repo,
        image_size=image_size,
        num_frames=1,
        patch_size=patch_size,
        tubelet_size=1,
    )


REGISTRY: dict[str, Published] = {
    "ijepa-vith14-in1k": _ijepa("IN1K-vit.h.14-300e", "vit_huge"),
    "ijepa-vith16-448-in1k": _ijepa("IN1K-vit.h.16-448px-300e", "vit_huge", 16, 448),
    "ijepa-vith14-in22k": _ijepa("IN22K-vit.h.14-900e", "vit_huge"),
    "ijepa-vitg16-in22k": _ijepa("IN22K-vit.g.16-600e", "vit_giant", 16),
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
        ("vjepa2_ac_droid.pth.tar",),
        "vit_giant",
        NC,
        "encoder",
        repo="facebook/jepa-wms",
        is_action_conditioned=True,
        encoder_from="vjepa2-vitg",
    ),
    "ijepa_vith14_1k": _ijepa("", "vit_huge", repo="facebook/ijepa_vith14_1k"),
    "ijepa_vith16_1k": _ijepa("", "vit_huge", 16, 448, "facebook/ijepa_vith16_1k"),
    "ijepa_vith14_22k": _ijepa("", "vit_huge", repo="facebook/ijepa_vith14_22k"),
    "ijepa_vitg16_22k": _ijepa("", "vit_giant", 16, repo="facebook/ijepa_vitg16_22k"),
    "vjepa2-vitl-fpc64-256": _hf("vjepa2-vitl-fpc64-256", "vit_large"),
    "vjepa2-vith-fpc64-256": _hf("vjepa2-vith-fpc64-256", "vit_huge"),
    "vjepa2-vitg-fpc64-256": _hf("vjepa2-vitg-fpc64-256", "vit_giant"),
    "vjepa2-vitg-fpc64-384": _hf("vjepa2-vitg-fpc64-384", "vit_giant", 384),
}
"""Name -> model. Files of Hugging Face are verified by their SHA-256 checksum, others by the one in
`known_files`, or else by their announced size and the checksums that their archive holds."""


def _v1_probe(name: str, task: str) -> Published:
    encoder = REGISTRY[f"vjepa-{name}"]
    url = f"{META}/jepa/{name}/{task}-probe.pth.tar"
    return dataclasses.replace(encoder, files=(url,), part="probe")


def _v2_probe(file: str, encoder: str, num_frames: int) -> Published:
    url = f"{META}/vjepa2/evals/{file}.pt"
    known = REGISTRY[encoder]
    return dataclasses.replace(known, files=(url,), part="probe", num_frames=num_frames)


PROBES: dict[str, Published] = {
    f"vjepa-{name}-{task}": _v1_probe(name, task)
    for name in ("vitl16", "vith16", "vith16-384")
    for task in ("k400", "ssv2", "in1k", "places", "inat")
} | {
    "vjepa2-vitl-ssv2": _v2_probe("ssv2-vitl-16x2x3", "vjepa2-vitl", 16),
    "vjepa2-vitg-384-ssv2": _v2_probe("ssv2-vitg-384-64x2x3", "vjepa2-vitg-384", 64),
    "vjepa2-vitl-diving48": _v2_probe("diving48-vitl-256", "vjepa2-vitl", 32),
    "vjepa2-vitg-384-diving48": _v2_probe("diving48-vitg-384-32x4x3", "vjepa2-vitg-384", 32),
    "vjepa2-vitl-fpc16-256-ssv2": _hf("vjepa2-vitl-fpc16-256-ssv2", "vit_large", 256, 16),
    "vjepa2-vitg-fpc64-384-ssv2": _hf("vjepa2-vitg-fpc64-384-ssv2", "vit_giant", 384),
    "vjepa2-vitl-fpc32-256-diving48": _hf("vjepa2-vitl-fpc32-256-diving48", "vit_large", 256, 32),
    "vjepa2-vitg-fpc32-384-diving48": _hf("vjepa2-vitg-fpc32-384-diving48", "vit_giant", 384, 32),
}
"""Name -> published probe (`load_probe`); those of Hugging Face hold their encoder as well."""


def is_known(name: str) -> bool:
    """Return whether a name belongs to a published model or probe."""
    return name in REGISTRY or name in PROBES


def get(name: str) -> Published:
    """Return the model or probe of a name.

    Raises:
        ConfigError: The name is unknown.
    """
    if name in PROBES:
        return PROBES[name]
    if name not in REGISTRY:
        raise ConfigError(f"Unknown published model {name!r}; known: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def _own_path(name: str, file: str) -> Path:
    """Return the path of a model's file in this package's cache, also for manual downloads."""
    return cache_root() / name / file.rsplit("/", 1)[-1]


def local_path(name: str) -> Path:
    """Return the path of a model's weights, which may not be downloaded yet."""
    model = get(name)
    path = _own_path(name, model.files[0])
    in_hub = cached_path(model.repo, model.files[0]) if model.repo else None
    return in_hub if in_hub is not None and not path.is_file() else path


def resolve(name: str) -> Path:
    """Return the path of a model's weights, downloading its files on first use.

    Raises:
        DownloadError: A file cannot be downloaded; the message describes the manual download.
    """
    model = get(name)
    weights = _own_path(name, model.files[0])
    if model.repo and weights.is_file():  # downloaded manually
        return weights
    paths = []
    for file in model.files:
        path = _own_path(name, file)
        if model.repo:
            paths.append(fetch_from_hub(model.repo, file, path))
        else:
            paths.append(fetch(_remote(name, file), path))
    return paths[0]


def _remote(name: str, url: str) -> Remote:
    """Return a file of a model with what is known about its content."""
    known = KNOWN_FILES.get(url.removeprefix(f"{META}/"))
    if known is None:
        return Remote(name, url, verify=verify_weights)
    return Remote(name, url, known.sha256, known.size, verify_weights)


def num_parameters(name: str) -> int:
    """Return the number of parameters of a model's encoder, computed from its preset."""
    model = get(name)
    config = preset(model.size, patch_size=model.patch_size, tubelet_size=model.tubelet_size)
    with torch.device("meta"):
        return sum(p.numel() for p in VisionTransformer(config).parameters())
