"""Models as folders and repositories of Hugging Face.

| file | content |
|---|---|
| `config.json` | kind, configuration and notes, and size and SHA-256 of the other files |
| `model.safetensors` | weights, with the same description (`worldmodel.checkpoints.io`) |
| `model-decoder.safetensors` | picture decoder for reports, if the model has one |
| `README.md` | model card |

A repository is named `USER/NAME` or `USER/NAME@REVISION`. Folders and repositories of published
V-JEPA 2, I-JEPA, DINOv2 and VideoMAE models have another `config.json`, which
`worldmodel.checkpoints.loading` tells apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from worldmodel.atomic_io import link_or_copy, write_json, write_text
from worldmodel.checkpoints.card import CardFacts, model_card
from worldmodel.checkpoints.container import read_description, read_json
from worldmodel.checkpoints.hub import MAIN, cached_path, fetch_from_hub, upload_files
from worldmodel.checkpoints.io import Model, description_of, load_own, save
from worldmodel.errors import CheckpointError, ConfigError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.models.transformers_encoder import is_backbone

MODEL_TYPE = "worldmodel"
"""`model_type` of our `config.json`."""
CONFIG, WEIGHTS, DECODER = "config.json", "model.safetensors", "model-decoder.safetensors"
CARD = "README.md"
FILES = (CONFIG, WEIGHTS, DECODER, CARD)
OTHER_WEIGHTS = ("model.safetensors",)
"""Files, beside `config.json`, of a repository with another `model_type`."""
REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]{0,95})/([\w.-]{0,95}\w)(?:@([\w][\w./-]{0,199}))?")
FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".tar", ".bin", ".ckpt", ".h5")


@dataclass(frozen=True)
class Repository:
    """A repository of the Hugging Face hub."""

    name: str
    """`USER/NAME`."""
    revision: str = MAIN
    """Branch, tag or commit."""


def parse_repository(name: str) -> Repository | None:
    """Parse `USER/NAME` or `USER/NAME@REVISION`; None for other names.

    A name that looks like a file, or whose first part is a folder here, is a path.
    """
    found = REPOSITORY.fullmatch(name)
    if found is None or ".." in name or "--" in name:
        return None
    user, repo, revision = found.groups()
    if Path(name).suffix in FILE_SUFFIXES or Path(user).exists():
        return None
    return Repository(f"{user}/{repo}", revision or MAIN)


def save_pretrained(
    model: Model,
    folder: Path | str,
    *,
    notes: Mapping[str, str] | None = None,
    licence: str = "",
    findings: tuple[str, ...] = (),
    decoder: Path | None = None,
    dtype: torch.dtype = torch.float32,
    repository: str = "USER/NAME",
) -> Path:
    """Write a model as a folder that `load_world_model` and the hub read.

    Args:
        model: A world model, a frame encoder, a latent dynamics or a probe.
        folder: Output folder; other files in it stay.
        notes: Notes about the training, for the description and the card.
        licence: Identifier of the hub, such as `mit`; empty if it is not stated.
        findings: Sentences of the training's verdict, for the card.
        decoder: File of the model's picture decoder, which is copied.
        dtype: Data type of the file; loading always gives float32.
        repository: Name in the card's example.

    Returns:
        The folder.
    """
    folder = Path(folder)
    save(folder / WEIGHTS, model, notes=dict(notes or {}), dtype=dtype)
    if decoder is None:
        (folder / DECODER).unlink(missing_ok=True)
    else:
        link_or_copy(decoder, folder / DECODER)
    names = [name for name in (WEIGHTS, DECODER) if (folder / name).is_file()]
    content = {
        "model_type": MODEL_TYPE,
        "library_name": "worldmodel",
        **description_of(model, notes),
        "files": {name: _facts(folder / name) for name in names},
    }
    write_json(folder / CONFIG, content)
    facts = CardFacts(
        repository=repository,
        notes=notes or {},
        licence=licence,
        findings=findings,
        has_decoder=decoder is not None,
    )
    write_text(folder / CARD, model_card(model, facts))
    return folder


def push_to_hub(
    model: Model,
    repository: str,
    folder: Path | str,
    *,
    private: bool = False,
    notes: Mapping[str, str] | None = None,
    licence: str = "",
) -> str:
    """Write a model with `save_pretrained` and upload the folder to the hub.

    Args:
        model: The model.
        repository: `USER/NAME` or `USER/NAME@BRANCH`; created if it is missing.
        folder: Folder for the files, which stay.
        private: Whether a new repository is private.
        notes: Notes about the training.
        licence: Identifier of the hub, such as `mit`.

    Returns:
        The URL of the commit.

    Raises:
        ConfigError: The name is not a repository.
        UploadError: The hub is unreachable or denies access.
    """
    written = save_pretrained(model, folder, notes=notes, licence=licence, repository=repository)
    return push_folder(written, repository, private=private)


def push_folder(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload the files that `save_pretrained` wrote; see `push_to_hub`."""
    found = REPOSITORY.fullmatch(repository)
    if found is None:
        raise ConfigError(
            f"repo={repository!r} is not a repository of the hub: use USER/NAME or USER/NAME@BRANCH"
        )
    user, repo, revision = found.groups()
    return upload_files(
        folder,
        f"{user}/{repo}",
        files=list(FILES),
        private=private,
        message="Upload a model of worldmodel",
        revision=revision or MAIN,
    )


def is_ours(folder: Path) -> bool:
    """Return whether the `config.json` of a folder was written by `save_pretrained`."""
    return read_json(folder / CONFIG).get("model_type") == MODEL_TYPE


def load_pretrained(
    folder: Path, *, checked: bool = False, encoder: FrameEncoder | None = None
) -> Model:
    """Load a folder of `save_pretrained`.

    Args:
        folder: The folder.
        checked: Whether the content was compared with its checksum already, as by a download; then
            only its size is.
        encoder: Encoder of a user's class; see `worldmodel.checkpoints.io.load_own`.

    Raises:
        CheckpointError: A file is missing, or does not match its size, its checksum or
            `config.json`.
    """
    config = read_json(folder / CONFIG)
    for name, facts in _listed(config, folder / CONFIG).items():
        if (folder / name).is_file() or name == WEIGHTS:
            _check_file(folder / name, facts, size_only=checked)
    described = read_description(folder / WEIGHTS)
    if described is None or any(described.get(k) != config.get(k) for k in ("kind", "config")):
        raise CheckpointError(
            f"{folder / CONFIG} describes another model than {folder / WEIGHTS}: download both "
            "files again"
        )
    return load_own(folder / WEIGHTS, encoder)


def fetch_repository(repository: Repository, manual: Path) -> Path:
    """Return the folder of a repository's files in the hub's cache, downloading them on first use.

    Args:
        repository: The repository.
        manual: Folder at which the caller looks for files that were downloaded manually.

    Raises:
        DownloadError: A file cannot be downloaded.
        CheckpointError: `config.json` is damaged, names other files than this format has, or
            describes a backbone of transformers.
    """

    def fetch(file: str) -> Path:
        return fetch_from_hub(repository.name, file, manual / file, repository.revision)

    path = fetch(CONFIG)
    config = read_json(path)
    kind = config.get("model_type")
    if is_backbone(config):
        raise CheckpointError(
            f"{repository.name} is a {kind} backbone of transformers: use hf:{repository.name}"
        )
    for name in _listed(config, path) if kind == MODEL_TYPE else OTHER_WEIGHTS:
        fetch(name)
    return path.parent


def cached_folder(name: str) -> Path | None:
    """Return the folder of a repository in the hub's cache; None for other names."""
    found = parse_repository(name)
    path = cached_path(found.name, CONFIG, found.revision) if found else None
    return None if path is None else path.parent


def _facts(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": sha256}


def _listed(config: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return the files that `config.json` lists; a stranger's file chooses no other names."""
    files = config.get("files")
    if (
        not isinstance(files, dict)
        or WEIGHTS not in files
        or not files.keys() <= {WEIGHTS, DECODER}
    ):
        raise CheckpointError(
            f"{where} lists the files {json.dumps(files)[:100]}; allowed: {WEIGHTS}, and {DECODER} "
            "beside it. Download it again"
        )
    return files


def _check_file(path: Path, facts: object, *, size_only: bool) -> None:
    expected = facts if isinstance(facts, dict) else {}
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: download it again")
    size = path.stat().st_size
    if size != expected.get("size"):
        raise CheckpointError(
            f"{path} has {size} bytes, {CONFIG} says {expected.get('size')}: the download is not "
            "complete, or the files do not belong together. Download both again"
        )
    if not size_only and _facts(path)["sha256"] != expected.get("sha256"):
        raise CheckpointError(
            f"{path} differs from the SHA-256 checksum in {CONFIG}: download both files again"
        )
