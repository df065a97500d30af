"""Read checkpoints of torch.distributed.checkpoint without running code that they name.

torch unpickles the `.metadata` of a checkpoint, and its values that are not tensors, without any
restriction, and opens the files that it names. A run's folder may come from somebody else, so only
the classes that a checkpoint needs are allowed here, and only files inside its folder.
"""

from __future__ import annotations

import io
import pickle
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem

from worldmodel.errors import CheckpointError

DCP = "torch.distributed.checkpoint"
ALLOWED = {
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath", "WindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath"},
    f"{DCP}.filesystem": {"_StorageInfo"},
    f"{DCP}.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
}
"""Module -> names that a `.metadata` may hold, beside torch's data types."""


def _enum_member(kind: object, name: str) -> Enum:
    """Return a member of an enumeration by its name, and nothing else that `getattr` could."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise pickle.UnpicklingError(f"it asks for {name} of something that is not an enumeration")
    return kind[name]


class _Unpickler(pickle.Unpickler):
    """Imports nothing but what a `.metadata` needs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):  # how early Python 3.11 pickles enumerations
            return _enum_member
        is_dtype = module == "torch" and isinstance(vars(torch).get(name), torch.dtype)
        if not is_dtype and name not in ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which would be imported")
        return super().find_class(module, name)


class CheckpointReader(FileSystemReader):
    """Reads the files of one checkpoint.

    Args:
        folder: Folder of the checkpoint.
        names: Names of its files, whose hashes were compared.
    """

    def __init__(self, folder: Path, names: set[str]) -> None:
        super().__init__(folder)
        self.folder, self.names = folder, names

    def read_metadata(self, *_: object, **__: object) -> Metadata:
        """Read and check what the checkpoint holds.

        Raises:
            CheckpointError: `.metadata` is damaged, or names other classes or files.
        """
        path = self.folder / ".metadata"
        try:
            with path.open("rb") as file:
                metadata = _Unpickler(file).load()
            named = {str(info.relative_path) for info in metadata.storage_data.values()}
            metadata.storage_meta.load_id = self.load_id
        except Exception as error:  # pickle raises errors of any kind on damaged data
            raise CheckpointError(f"{path} was refused: {error}") from error
        if not isinstance(metadata, Metadata) or not named <= self.names:
            other = sorted(named - self.names)[:1]
            raise CheckpointError(f"{path} was refused: it names {other}, no file of {self.folder}")
        return metadata


class Planner(DefaultLoadPlanner):
    """Reads values that are not tensors with torch's restricted unpickler."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put a value into the state."""
        restricted = torch.load(value, map_location="cpu", weights_only=True)
        with io.BytesIO() as safe:
            torch.save(restricted, safe)
            safe.seek(0)
            super().load_bytes(read_item, safe)
