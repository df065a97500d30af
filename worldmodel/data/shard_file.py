"""Files of prepared episodes, and the hash beside each."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors.torch import save as to_bytes
from torch import Tensor

from worldmodel.atomic_io import atomic_file, write_text
from worldmodel.errors import DataError

HASH = ".sha256"


def write_shard(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a shard atomically; return its hash, which is also stored beside it.

    Raises:
        DataError: The write failed, for example on a full disk.
    """
    data = to_bytes({k: v.contiguous() for k, v in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    try:
        with atomic_file(path) as part:
            part.write_bytes(data)
            write_text(path.with_suffix(HASH), digest)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error}. Free space, then run the same command: it resumes here"
        ) from error
    return digest


def is_complete(path: Path) -> bool:
    """Return whether a shard exists and matches the hash stored beside it."""
    digest = stored_hash(path)
    if not path.is_file() or not digest:
        return False
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return found == digest


def stored_hash(path: Path) -> str:
    """Return the hash stored beside a shard; empty if there is none."""
    stored = path.with_suffix(HASH)
    return stored.read_text(encoding="utf-8", errors="replace").strip() if stored.is_file() else ""
